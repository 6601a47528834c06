"""Builds a `Request` from headers and body: chooses the parser by path, reads model, rewrite and control headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from uuid import UUID

import msgspec

from epp.api import ParsedRequest, Parser, Request, UsageReader
from epp.errors import BadRequest
from epp.headers import FAIRNESS_ID, MODEL_NAME_REWRITE, REQUEST_ID
from epp.parsers import rewrite
from epp.requestcontrol.interfaces import RequestHeaders
from epp.scheduling.result import ProfileRunResult

MAX_CONTROL_VALUE_LENGTH = 256  # the values become labels of metrics
DEFAULT_FAIRNESS_ID = "default-flow"  # llm-d's
EMPTY_PARSED = ParsedRequest()
MAX_REMEMBERED_PATHS = 64


class RequestContext(msgspec.Struct, gc=False):
    """A request on its way to a routing decision (llm-d's `handlers.RequestContext`).

    `request` is what plugins see. `started_at`: when the director got it, monotonic seconds. `parser` is None if no
    body was parsed. `rewritten_body` replaces the body if the model was rewritten, otherwise None. `generated_id`: the
    request came without an id. `results`: the runs so far by profile name; the primary profile comes first once it is
    known.
    """

    request: Request
    started_at: float
    parser: Parser | None = None
    rewritten_body: bytes | None = None
    generated_id: bool = False
    results: dict[str, ProfileRunResult] = {}

    def create_usage_reader(self) -> UsageReader | None:
        """A reader of the token usage in the response; None if this API reports none."""
        return (
            None if self.parser is None else self.parser.create_usage_reader(self.request.path, self.request.streaming)
        )


class RequestParser:
    """Parses requests with the configured parsers (llm-d's `ParserRegistry`).

    A path is matched by the longest suffix that a parser claims; a parser without paths takes what no suffix matches.
    Parsers listed after a parser without paths are never used, as in llm-d.
    """

    def __init__(self, parsers: Sequence[tuple[str, Parser]], rng: Random) -> None:
        by_suffix: dict[str, Parser] = {}
        self._fallback: Parser | None = None
        for _, parser in parsers:
            if not parser.paths:
                self._fallback = parser
                break
            for suffix in parser.paths:
                by_suffix.setdefault(suffix, parser)
        self._by_suffix = sorted(by_suffix.items(), key=lambda item: -len(item[0]))
        self._rng = rng
        self.find_parser = lru_cache(MAX_REMEMBERED_PATHS)(self._find_parser)
        """The parser of a request path, query ignored; raises `BadRequest` if there is none."""

    def parse(self, headers: RequestHeaders, body: bytes, started_at: float) -> RequestContext:
        """The request; raises `BadRequest`. Nothing is parsed if there is no body, or if it arrives after routing."""
        values = headers.headers
        path = resolve_path(values)
        fairness_id = read_control_header(values, FAIRNESS_ID) or DEFAULT_FAIRNESS_ID
        request_id = values.get(REQUEST_ID)
        parser, parsed = None, EMPTY_PARSED
        if not headers.end_of_stream and not headers.routed_before_body:
            parser = self.find_parser(path)
            parsed = parser.parse(path, values, body)
        model = target_model = parsed.model or ""
        # llm-d rewrites models, and requires one, only with parsers that know models: not with the passthrough parser,
        # which is the one without paths.
        if parser is not None and parser.paths:
            target_model = read_control_header(values, MODEL_NAME_REWRITE) or model
            if not target_model:
                raise BadRequest("model not found in request body")
        request = Request(
            # From our generator, not `uuid4`: equal seeds give equal ids, and it makes no system call.
            id=request_id or str(UUID(int=self._rng.getrandbits(128), version=4)),
            path=path,
            headers=values,
            body=body,
            model=model,
            target_model=target_model,
            text=parsed.text,
            token_ids=parsed.token_ids,
            cache_salt=parsed.cache_salt,
            max_output_tokens=parsed.max_output_tokens,
            streaming=parsed.streaming,
            fairness_id=fairness_id,
        )
        rewritten_body = None if target_model == model else rewrite.replace_model(body, target_model)
        return RequestContext(request, started_at, parser, rewritten_body, not request_id)

    def _find_parser(self, path: str) -> Parser:
        without_query = path.partition("?")[0]
        for suffix, parser in self._by_suffix:
            if without_query.endswith(suffix):
                return parser
        if self._fallback is None:
            raise BadRequest(f"no parser registered matching path suffix for: {without_query}")
        return self._fallback


def resolve_path(headers: Mapping[str, str]) -> str:
    """The path that selects the parser; the headers and their order are those of llm-d's `GetRequestPath`."""
    return (
        headers.get(":path") or headers.get("x-original-path") or headers.get("x-forwarded-path") or "/v1/completions"
    )


def read_control_header(headers: Mapping[str, str], names: Sequence[str]) -> str:
    """The first non-empty value under these names, else ""; raises `BadRequest` for one that cannot be a label."""
    for name in names:
        value = headers.get(name)
        if value:
            if len(value) > MAX_CONTROL_VALUE_LENGTH or not value.isprintable():
                raise BadRequest(f"header {name} must be printable and at most {MAX_CONTROL_VALUE_LENGTH} characters")
            return value
    return ""
