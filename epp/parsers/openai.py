"""Parser of the OpenAI APIs. Decodes the fields that routing needs in one pass and skips the others.

A body of the common shape is decoded into a typed structure. If that fails, the body is read field by field, and fields
of an unexpected type count as absent: validating a request is the business of the model server.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, NoReturn

import msgspec
from msgspec import Raw

from epp.api import ParsedRequest, Parser, UsageReader
from epp.errors import BadRequest
from epp.parsers import prompts
from epp.parsers.prompts import ABSENT, DECODE_ERRORS, ChatMessage
from epp.parsers.usage import UsageScanner


class CommonFields(msgspec.Struct, gc=False):
    """Fields of most APIs."""

    model: str | None = None
    stream: bool | None = None
    cache_salt: str | None = None
    max_tokens: int | None = None


class ChatRequest(CommonFields, gc=False):
    """A body of `chat/completions`."""

    messages: list[ChatMessage] = []
    max_completion_tokens: int | None = None
    tools: Raw = ABSENT


class CompletionsRequest(CommonFields, gc=False):
    """A body of `completions` whose prompt is one string."""

    prompt: str = ""


PATH_CACHE_SIZE = 64
"""Request paths, as clients send them, whose API is remembered. Bounded, because clients choose them."""


class OpenAIApi(msgspec.Struct, frozen=True):
    """Names of one API: the field with the prompt, and those that limit the output, of which the first present counts.

    `title` and `adjective` stand in the error of a request without a prompt, which is that of llm-d's parser.
    `reports_usage`: whether responses have a `usage` object.
    """

    title: str
    prompt_field: str
    adjective: str = ""
    max_output_fields: tuple[str, ...] = ()
    reports_usage: bool = True

    def reject_missing_prompt(self) -> NoReturn:
        """Raises BadRequest in llm-d's words."""
        raise BadRequest(f"invalid {self.title} request: must have {self.adjective}{self.prompt_field} field")


CHAT = OpenAIApi("chat completions", "messages", "valid ", ("max_completion_tokens", "max_tokens"))
COMPLETIONS = OpenAIApi("completions", "prompt", max_output_fields=("max_tokens",))
RESPONSES = OpenAIApi("responses", "input", max_output_fields=("max_output_tokens",))
EMBEDDINGS = OpenAIApi("embeddings", "input")
CONVERSATIONS = OpenAIApi("conversations", "items", reports_usage=False)
IMAGES = OpenAIApi("images generations", "prompt", reports_usage=False)

# Matched in order: where one suffix ends with another, the longer one stands first.
APIS: tuple[tuple[str, OpenAIApi], ...] = (
    ("chat/completions", CHAT),
    ("completions", COMPLETIONS),
    ("responses", RESPONSES),
    ("embeddings", EMBEDDINGS),
    ("conversations", CONVERSATIONS),
    ("chat/completions/render", CHAT),
    ("completions/render", COMPLETIONS),
    ("images/generations", IMAGES),
)

_chat_decoder = msgspec.json.Decoder(ChatRequest)
_completions_decoder = msgspec.json.Decoder(CompletionsRequest)
_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_int_decoder = msgspec.json.Decoder(int, strict=True)


class OpenAIParser(Parser, type="openai-parser"):
    """OpenAI's APIs: chat, completions, responses, embeddings, conversations, images, and vLLM's render variants."""

    ignore_unknown_parameters: ClassVar[bool] = True
    paths: ClassVar[tuple[str, ...]] = tuple(suffix for suffix, _ in APIS)

    def __post_init__(self) -> None:
        # The parser's own: what clients send is kept for as long as the picker that they send it to, and no longer.
        self._api_for_path = lru_cache(PATH_CACHE_SIZE)(find_api)

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        """The request. BadRequest if the body is not a JSON object, or has no prompt."""
        api = self._api_for_path(path)
        try:
            if api is CHAT:
                return _parse_chat(body)
            if api is COMPLETIONS:
                return _parse_completions(body)
        except DECODE_ERRORS:
            pass
        return _parse_field_by_field(api, body)

    def create_usage_reader(self, path: str, streaming: bool) -> UsageReader | None:
        """A scanner for responses of chat, completions, responses and embeddings; None for other APIs."""
        # Rendering a prompt generates nothing, so its response has no usage.
        reports_usage = self._api_for_path(path).reports_usage and not path.endswith("/render")
        return UsageScanner() if reports_usage else None


def find_api(path: str) -> OpenAIApi:
    """The API of a request path, its query ignored; completions if none matches, as in llm-d."""
    path = path.partition("?")[0]
    for suffix, api in APIS:
        if path.endswith(suffix):
            return api
    return COMPLETIONS


def _parse_chat(body: bytes) -> ParsedRequest:
    chat = _chat_decoder.decode(body)
    if not chat.messages:
        CHAT.reject_missing_prompt()
    texts: list[str] = []
    if chat.tools is not ABSENT:
        texts.append(prompts.raw_json_text(chat.tools))
    limit = chat.max_tokens if chat.max_completion_tokens is None else chat.max_completion_tokens
    prompts.append_messages(chat.messages, texts)
    return ParsedRequest(chat.model, prompts.join_texts(texts), b"", chat.cache_salt or "", limit, chat.stream is True)


def _parse_completions(body: bytes) -> ParsedRequest:
    request = _completions_decoder.decode(body)
    if not request.prompt:
        COMPLETIONS.reject_missing_prompt()
    text = request.prompt.encode()
    return ParsedRequest(request.model, text, b"", request.cache_salt or "", request.max_tokens, request.stream is True)


def _parse_field_by_field(api: OpenAIApi, body: bytes) -> ParsedRequest:
    fields = _decode_object(body)
    text, token_ids = _extract_prompt(api, fields)
    return ParsedRequest(
        model=prompts.decode_string(fields.get("model", ABSENT)),
        text=text,
        token_ids=token_ids,
        cache_salt=prompts.decode_string(fields.get("cache_salt", ABSENT)) or "",
        max_output_tokens=next(
            (n for name in api.max_output_fields if (n := _decode_int(fields.get(name, ABSENT))) is not None), None
        ),
        streaming=bytes(fields.get("stream", ABSENT)) == b"true",
    )


def _decode_object(body: bytes) -> dict[str, Raw]:
    try:
        return _object_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"error unmarshaling request bodyMap: {error}") from None
    except DECODE_ERRORS as error:
        problem = error
    try:
        return _object_decoder.decode(prompts.replace_lone_surrogates(body))
    except DECODE_ERRORS:
        detail = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise BadRequest(f"error unmarshaling request bodyMap: {detail}") from None


def _extract_prompt(api: OpenAIApi, fields: Mapping[str, Raw]) -> tuple[bytes, bytes]:
    raw = fields.get(api.prompt_field, ABSENT)
    if prompts.is_null_or_absent(raw):
        api.reject_missing_prompt()
    if api is COMPLETIONS or api is EMBEDDINGS or api is IMAGES:
        text, token_ids = prompts.extract_prompt(raw)
        if not text and not token_ids:
            api.reject_missing_prompt()
        return text, token_ids
    if api is not RESPONSES and not prompts.decode_list(raw):
        api.reject_missing_prompt()
    leading = [fields[name] for name in ("tools", "instructions") if name in fields]
    texts = [prompts.decode_string(part) or prompts.raw_json_text(part) for part in leading]
    prompts.append_items(raw, texts)
    return prompts.join_texts(texts), b""


def _decode_int(raw: Raw) -> int | None:
    try:
        return _int_decoder.decode(raw)
    except DECODE_ERRORS:
        return None
