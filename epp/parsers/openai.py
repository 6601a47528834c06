"""The OpenAI APIs: what routing needs of a request, decoded in one pass; everything else stays unread.

A body of the usual shape is decoded into a typed structure. One that does not fit is read again field by field: a
field that we do not need may be anything, because the model server, not we, judges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, NoReturn

import msgspec
from msgspec import Raw

from epp.api import Parsed, Parser, UsageReader
from epp.errors import BadRequest
from epp.parsers import prompts
from epp.parsers.prompts import MISFIT, NOTHING, Message
from epp.parsers.usage import UsageScanner


class Common(msgspec.Struct, gc=False):
    """Fields that most APIs share."""

    model: str | None = None
    stream: bool | None = None
    cache_salt: str | None = None
    max_tokens: int | None = None


class Chat(Common, gc=False):
    """`chat/completions`."""

    messages: list[Message] = []
    max_completion_tokens: int | None = None
    tools: Raw = NOTHING


class Completions(Common, gc=False):
    """`completions`, prompt as one string."""

    prompt: str = ""


REMEMBERED_PATHS = 64


class Api(msgspec.Struct, frozen=True):
    """How one API names things. `required` is the field with the prompt, `limits` the caps of output, first wins."""

    title: str
    required: str
    adjective: str = ""
    limits: tuple[str, ...] = ()
    usage: bool = True

    def refuse(self) -> NoReturn:
        """llm-d's answer to a body without its prompt."""
        raise BadRequest(f"invalid {self.title} request: must have {self.adjective}{self.required} field")


CHAT = Api("chat completions", "messages", "valid ", ("max_completion_tokens", "max_tokens"))
COMPLETIONS = Api("completions", "prompt", limits=("max_tokens",))
RESPONSES = Api("responses", "input", limits=("max_output_tokens",))
EMBEDDINGS = Api("embeddings", "input")
CONVERSATIONS = Api("conversations", "items", usage=False)
IMAGES = Api("images generations", "prompt", usage=False)

# The longer suffix first where one ends with the other.
APIS: tuple[tuple[str, Api], ...] = (
    ("chat/completions", CHAT),
    ("completions", COMPLETIONS),
    ("responses", RESPONSES),
    ("embeddings", EMBEDDINGS),
    ("conversations", CONVERSATIONS),
    ("chat/completions/render", CHAT),
    ("completions/render", COMPLETIONS),
    ("images/generations", IMAGES),
)

_chat = msgspec.json.Decoder(Chat)
_completions = msgspec.json.Decoder(Completions)
_fields = msgspec.json.Decoder(dict[str, Raw])
_integer = msgspec.json.Decoder(int, strict=True)


class OpenAIParser(Parser, type="openai-parser"):
    """OpenAI's APIs: chat, completions, responses, embeddings, conversations, images, and vLLM's render variants."""

    lenient: ClassVar[bool] = True
    paths: ClassVar[tuple[str, ...]] = tuple(suffix for suffix, _ in APIS)

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> Parsed:
        """The request; `BadRequest` for what is no JSON object or has no prompt."""
        api = api_of(path)
        try:
            if api is CHAT:
                return _usual_chat(body)
            if api is COMPLETIONS:
                return _usual_completions(body)
        except MISFIT:
            pass
        return _field_by_field(api, body)

    def usage_reader(self, path: str, streaming: bool) -> UsageReader | None:
        """Chat, completions, responses and embeddings tell what they used."""
        return UsageScanner() if tells_usage(path) else None


@lru_cache(REMEMBERED_PATHS)
def api_of(path: str) -> Api:
    """The API of a request path; completions if none, as llm-d has it."""
    path = path.partition("?")[0]
    for suffix, api in APIS:
        if path.endswith(suffix):
            return api
    return COMPLETIONS


@lru_cache(REMEMBERED_PATHS)
def tells_usage(path: str) -> bool:
    """Whether answers to requests of this path tell the tokens they used; rendering a prompt uses none."""
    return api_of(path).usage and not path.endswith("/render")


def _usual_chat(body: bytes) -> Parsed:
    chat = _chat.decode(body)
    if not chat.messages:
        CHAT.refuse()
    texts: list[str] = []
    if chat.tools is not NOTHING:
        texts.append(prompts.verbatim(chat.tools))
    limit = chat.max_tokens if chat.max_completion_tokens is None else chat.max_completion_tokens
    prompts.of_messages(chat.messages, texts)
    return Parsed(chat.model, prompts.joined(texts), b"", chat.cache_salt or "", limit, chat.stream is True)


def _usual_completions(body: bytes) -> Parsed:
    request = _completions.decode(body)
    if not request.prompt:
        COMPLETIONS.refuse()
    text = request.prompt.encode()
    return Parsed(request.model, text, b"", request.cache_salt or "", request.max_tokens, request.stream is True)


def _field_by_field(api: Api, body: bytes) -> Parsed:
    fields = _object(body)
    text, token_ids = _prompt(api, fields)
    return Parsed(
        model=prompts.string(fields.get("model", NOTHING)),
        text=text,
        token_ids=token_ids,
        cache_salt=prompts.string(fields.get("cache_salt", NOTHING)) or "",
        max_output_tokens=next(
            (n for name in api.limits if (n := _whole(fields.get(name, NOTHING))) is not None), None
        ),
        streaming=bytes(fields.get("stream", NOTHING)) == b"true",
    )


def _object(body: bytes) -> dict[str, Raw]:
    try:
        return _fields.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"error unmarshaling request bodyMap: {error}") from None
    except MISFIT as error:
        problem = error
    try:
        return _fields.decode(prompts.mended(body))
    except MISFIT:
        detail = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise BadRequest(f"error unmarshaling request bodyMap: {detail}") from None


def _prompt(api: Api, fields: Mapping[str, Raw]) -> tuple[bytes, bytes]:
    raw = fields.get(api.required, NOTHING)
    if prompts.is_null(raw):
        api.refuse()
    if api is COMPLETIONS or api is EMBEDDINGS or api is IMAGES:
        text, token_ids = prompts.of_prompt(raw)
        if not text and not token_ids:
            api.refuse()
        return text, token_ids
    if api is not RESPONSES and not prompts.items(raw):
        api.refuse()
    leading = [fields[name] for name in ("tools", "instructions") if name in fields]
    texts = [prompts.string(part) or prompts.verbatim(part) for part in leading]
    prompts.of_items(raw, texts)
    return prompts.joined(texts), b""


def _whole(raw: Raw) -> int | None:
    try:
        return _integer.decode(raw)
    except MISFIT:
        return None
