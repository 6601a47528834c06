"""Contract checks for profile handlers and parsers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, Final

from epp.api import BadRequest, ParsedRequest, Parser, ProfileHandler, Request, TokenUsage
from epp.testing.contracts import ContractCheck

MAX_SIMULATED_PROFILES: Final = 6
"""2**n outcomes are tried for n profiles."""

MALFORMED_BODIES: Final = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe\x00",
    b"[" * 5000,
    b'{"model": 1, "prompt": {"a": []}, "messages": 3, "stream": "yes", "max_tokens": 1e999}',
    b'{"model": "\xf0\x28\x8c\x28"}',
    b'{"model": "m", "max_tokens": -99999999999999999999}',
)
SAMPLE_RESPONSES: Final = (
    b'{"id": "1", "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}',
    b'data: {"choices": [{"text": "\\"usage\\""}]}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\ndata: [DONE]\n\n',
    b'{"usage": {"prompt_tokens": "many", "completion_tokens": -1}}',
    b"\xff\x00{[",
)


def check_profile_handler(
    handler: ProfileHandler, *, profiles: Sequence[str] = ("default",), request: Request | None = None
) -> None:
    """Checks that the handler accepts `profiles` and decides, whichever of them find an endpoint.

    For each combination: only available profiles are picked, picking ends, at least one profile ran, the primary
    profile is one of those that ran, and the same results lead to the same answers.
    """
    check = ContractCheck(handler, ProfileHandler)
    available = tuple(profiles)
    refusals = list(handler.validate_profiles(available))
    check.require(not refusals, f"refuses the profiles {', '.join(available)}: {'; '.join(refusals)}")
    check.require(len(available) <= MAX_SIMULATED_PROFILES, f"give at most {MAX_SIMULATED_PROFILES} profiles")
    for outcome in product((True, False), repeat=len(available)):
        found = dict(zip(available, outcome, strict=True))
        results: dict[str, bool] = {}
        for _ in range(2 * len(available) + 1):
            picked = _pick_profiles(check, handler, request or Request(), available, results)
            if not picked:
                break
            results |= {name: found[name] for name in picked}
        else:
            check.require(False, f"pick_profiles() never returns an empty sequence; so far {results}")
        check.require(bool(results), "pick_profiles() returned no profile at the first call")
        primary = check.require_no_error(
            f"for {results}", handler.primary_profile, request or Request(), MappingProxyType(results)
        )
        check.require(primary in results, f"primary_profile() returned {primary!r}, which did not run: {results}")


def _pick_profiles(
    check: ContractCheck, handler: ProfileHandler, request: Request, available: Sequence[str], results: dict[str, bool]
) -> list[str]:
    returned = [
        check.require_no_error(
            f"for {results}", handler.pick_profiles, request, available, MappingProxyType(dict(results))
        )
        for _ in range(2)
    ]
    is_sequence = isinstance(returned[0], Sequence) and not isinstance(returned[0], str)
    check.require(is_sequence, f"pick_profiles() returned {returned[0]!r}: a sequence of profile names is expected")
    one, other = map(list, returned)
    check.require(one == other, f"pick_profiles() returned {one}, then {other} for the same results {results}")
    unknown = [name for name in one if name not in available]
    check.require(
        not unknown,
        f"pick_profiles() returned {unknown}, which are not available: {list(available)}; give the profiles that the "
        "handler needs as `profiles`",
    )
    check.require(len(set(one)) == len(one), f"pick_profiles() returned a profile twice: {one}")
    picked: list[str] = one
    return picked


def check_parser(
    parser: Parser,
    *,
    requests: Sequence[tuple[str, bytes]] = (),
    responses: Sequence[bytes] = (),
    headers: Mapping[str, str] | None = None,
) -> None:
    """Checks that the parser reads `requests` (path, body) and answers any other body with a result or `BadRequest`.

    Malformed bodies are a list of their own and every request cut off at some places. Usage readers must give the same
    counts for `responses`, and for samples, however these are cut into chunks.
    """
    check = ContractCheck(parser, Parser)
    for path, body in requests:
        selected = not parser.paths or any(path.partition("?")[0].endswith(suffix) for suffix in parser.paths)
        check.require(selected, f"is not selected for {path}: its paths are {', '.join(parser.paths)}")
        parsed = check.require_no_error(f"for {body[:80]!r}", parser.parse, path, headers or {}, body)
        _check_parsed(check, parsed)
        again = parser.parse(path, headers or {}, body)
        check.require(parsed == again, f"reads {body[:80]!r} differently the second time: {parsed}, then {again}")
    paths = sorted({*parser.paths, *(path for path, _ in requests)} or {"/"})
    cuts = [body[: len(body) * part // 8] for _, body in requests for part in range(8)]
    for path in paths:
        for body in (*MALFORMED_BODIES, *cuts):
            try:
                parsed = parser.parse(path, headers or {}, body)
            except BadRequest:
                continue
            except Exception as error:
                message = f"raised {error.__class__.__name__} instead of BadRequest for {body[:80]!r}: {error}"
                raise AssertionError(f"{type(parser).__name__} {message}") from error
            _check_parsed(check, parsed)
        for streaming in (False, True):
            _check_usage_reader(check, parser, path, streaming, (*responses, *SAMPLE_RESPONSES))


def _check_parsed(check: ContractCheck, parsed: Any) -> None:
    check.require(isinstance(parsed, ParsedRequest), f"parse() returned {type(parsed).__name__}, not ParsedRequest")
    expected: Mapping[str, tuple[type, ...]] = {
        "model": (str, type(None)),
        "text": (bytes,),
        "token_ids": (bytes,),
        "cache_salt": (str,),
        "max_output_tokens": (int, type(None)),
        "streaming": (bool,),
    }
    for field, types in expected.items():
        value = getattr(parsed, field)
        check.require(isinstance(value, types), f"ParsedRequest.{field} is {value!r}")
    check.require(not len(parsed.token_ids) % 4, f"ParsedRequest.token_ids has {len(parsed.token_ids)} bytes, not u32s")


def _check_usage_reader(
    check: ContractCheck, parser: Parser, path: str, streaming: bool, responses: Sequence[bytes]
) -> None:
    if parser.create_usage_reader(path, streaming) is None:
        return
    for response in responses:
        whole, *cut = (
            check.require_no_error(
                f"for the response {response[:80]!r}", _read_usage, parser, path, streaming, response, size
            )
            for size in (max(1, len(response)), 1, 3)
        )
        check.require(isinstance(whole, TokenUsage), f"usage() returned {type(whole).__name__}, not TokenUsage")
        for count in (whole.prompt_tokens, whole.output_tokens, whole.cached_tokens):
            valid = count is None or (isinstance(count, int) and count >= 0)
            check.require(valid, f"usage() returned the count {count!r} for {response[:80]!r}")
        for usage in cut:
            check.require(usage == whole, f"usage depends on how {response[:80]!r} is cut: {whole} and {usage}")


def _read_usage(parser: Parser, path: str, streaming: bool, response: bytes, size: int) -> TokenUsage:
    reader = parser.create_usage_reader(path, streaming)
    assert reader is not None, "it was created before"
    for start in range(0, len(response), size):
        reader.feed(response[start : start + size])
    return reader.usage()
