"""The contract checks of profile handlers and parsers reject implementations that break the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from epp.api import BadRequest, ParsedRequest, Parser, ProfileHandler, Request, TokenUsage, UsageReader
from epp.testing import check_parser, check_profile_handler


class PrefillDecodeHandler(ProfileHandler, type="prefill-decode"):
    """Prefill, then decode if prefill found an endpoint."""

    def validate_profiles(self, available: Sequence[str]) -> Sequence[str]:
        return () if {"prefill", "decode"} <= set(available) else ("needs prefill and decode",)

    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        if not results:
            return ["prefill"]
        return ["decode"] if results == {"prefill": True} else []

    def primary_profile(self, request: Request, results: Mapping[str, bool]) -> str:
        return "decode" if "decode" in results else "prefill"


class EndlessHandler(PrefillDecodeHandler, type="endless"):
    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        return available


class IdleHandler(PrefillDecodeHandler, type="idle"):
    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        return ()


class UnavailableProfileHandler(PrefillDecodeHandler, type="unavailable-profile"):
    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        return ["encode"]


class OneNameHandler(PrefillDecodeHandler, type="one-name"):
    """Returns a name instead of a sequence of names."""

    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        return "decode" if not results else ()


class FixedPrimaryHandler(PrefillDecodeHandler, type="fixed-primary"):
    """Names decode even if it did not run."""

    def primary_profile(self, request: Request, results: Mapping[str, bool]) -> str:
        return "decode"


class ResultsWritingHandler(PrefillDecodeHandler, type="results-writing"):
    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        results["seen"] = True  # type: ignore[index]
        return ()


class StatefulHandler(PrefillDecodeHandler, type="stateful"):
    def __post_init__(self) -> None:
        self.calls = 0

    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        self.calls += 1
        return [available[self.calls % 2]] if not results else []


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (EndlessHandler(), r"pick_profiles\(\) never returns an empty sequence"),
        (IdleHandler(), "returned no profile at the first call"),
        (UnavailableProfileHandler(), r"returned \['encode'\], which are not available"),
        (OneNameHandler(), r"pick_profiles\(\) returned 'decode': a sequence of profile names is expected"),
        (FixedPrimaryHandler(), r"primary_profile\(\) returned 'decode', which did not run: {'prefill': False}"),
        (ResultsWritingHandler(), "ResultsWritingHandler raised for {}: TypeError"),
        (StatefulHandler(), "for the same results"),
    ],
)
def test_a_profile_handler_that_breaks_the_contract_is_rejected(handler: ProfileHandler, message: str) -> None:
    check_profile_handler(PrefillDecodeHandler(), profiles=("prefill", "decode"))
    with pytest.raises(AssertionError, match=message):
        check_profile_handler(handler, profiles=("prefill", "decode"))


def test_a_profile_handler_must_accept_the_profiles_of_the_check() -> None:
    with pytest.raises(AssertionError, match="refuses the profiles default: needs prefill and decode"):
        check_profile_handler(PrefillDecodeHandler())


class WholeBodyUsageReader:
    """Reads the whole body at the end."""

    def __init__(self) -> None:
        self.body = b""

    def feed(self, data: bytes) -> None:
        self.body += data

    def usage(self) -> TokenUsage:
        try:
            count = json.loads(self.body)["usage"]["prompt_tokens"]
        except (ValueError, TypeError, KeyError):
            return TokenUsage()
        return TokenUsage(count if isinstance(count, int) else None)


class ChunkUsageReader(WholeBodyUsageReader):
    """Reads only what stands in one chunk."""

    def feed(self, data: bytes) -> None:
        self.body = data


class UncheckedUsageReader(WholeBodyUsageReader):
    def usage(self) -> TokenUsage:
        return TokenUsage(json.loads(self.body)["usage"]["prompt_tokens"])


class CompletionParser(Parser, type="completions"):
    paths = ("/completions",)
    reader: type = WholeBodyUsageReader

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        try:
            found = json.loads(body)
            return ParsedRequest(model=str(found["model"]), text=str(found["prompt"]).encode("utf-8", "replace"))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadRequest(f"not a completion request: {error!r}") from None

    def create_usage_reader(self, path: str, streaming: bool) -> UsageReader | None:
        return self.reader()  # type: ignore[no-any-return]


class UncheckedParser(CompletionParser, type="unchecked"):
    """Lets the errors of the JSON library through."""

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        return ParsedRequest(model=json.loads(body)["model"])


class UntypedParser(CompletionParser, type="untyped"):
    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        return ParsedRequest(text="text")  # type: ignore[arg-type]


class RefusingParser(CompletionParser, type="refusing"):
    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        raise BadRequest("never")


GOOD_REQUEST = ("/v1/completions?x=1", b'{"model": "m", "prompt": "once"}')


@pytest.mark.parametrize(
    ("parser", "message"),
    [
        (UncheckedParser(), r"raised (JSONDecodeError|TypeError) instead of BadRequest for b''"),
        (UntypedParser(), r"ParsedRequest\.text is 'text'"),
        (RefusingParser(), "RefusingParser raised for .* BadRequest: never"),
        (CompletionParser(reader=ChunkUsageReader), "usage depends on how .* is cut"),
        (CompletionParser(reader=UncheckedUsageReader), "raised for the response .* JSONDecodeError"),
    ],
)
def test_a_parser_that_breaks_the_contract_is_rejected(parser: Parser, message: str) -> None:
    check_parser(CompletionParser(), requests=[GOOD_REQUEST])
    with pytest.raises(AssertionError, match=message):
        check_parser(parser, requests=[GOOD_REQUEST])


def test_a_parser_must_be_selected_for_the_paths_of_the_check() -> None:
    with pytest.raises(AssertionError, match="is not selected for /v1/chat: its paths are /completions"):
        check_parser(CompletionParser(), requests=[("/v1/chat", b"{}")])
