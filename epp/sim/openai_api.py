"""What clients send and get: OpenAI's completions and chat completions, as vLLM 0.32 speaks them."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from epp.errors import EppError
from epp.sim import tokens

JSON_CONTENT_TYPE = "application/json"
SSE_CONTENT_TYPE = "text/event-stream; charset=utf-8"
SSE_DONE = b"data: [DONE]\n\n"


class OpenAIError(EppError):
    """A request that gets an error answer; `kind` is OpenAI's error type."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> None:
        self.status = status
        self.type = kind
        self.param = param
        super().__init__(message)

    def encode(self) -> bytes:
        """OpenAI's error object."""
        error = {"message": str(self), "type": self.type, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": error})


class StreamOptions(msgspec.Struct):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class GenerationRequest(msgspec.Struct, kw_only=True):
    """What both endpoints share. `stop`, sampling parameters and unknown fields are accepted and ignored."""

    model: str | None = None
    max_tokens: int | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    cache_salt: str | None = None
    ignore_eos: bool = False

    @property
    def output_limit(self) -> int | None:
        """The most tokens the answer may have."""
        return self.max_tokens

    def encode_prompt(self) -> bytes:
        """The prompt."""
        raise NotImplementedError


class CompletionRequest(GenerationRequest, kw_only=True):
    """`POST /v1/completions`."""

    prompt: Any

    def encode_prompt(self) -> bytes:
        """One prompt: a text, a list of token ids, or a list with one of these."""
        prompt = self.prompt
        if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return tokens.encode_text(prompt)
        if isinstance(prompt, list) and prompt and all(type(each) is int for each in prompt):
            return tokens.pack_token_ids(prompt)
        raise OpenAIError(400, "prompt must be one text or one list of token ids", param="prompt")


class ChatCompletionRequest(GenerationRequest, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    tools: list[Any] | None = None

    @property
    def output_limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def encode_prompt(self) -> bytes:
        """The conversation under the chat template."""
        if not self.messages:
            raise OpenAIError(400, "messages must not be empty", param="messages")
        return tokens.encode_chat(self.messages, self.tools)


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """`POST /tokenize`."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None


T = TypeVar("T")


def decode_body(data: bytes, kind: type[T]) -> T:
    """The body, or an `ApiError` that says where it is wrong."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise OpenAIError(400, str(error)) from None


def build_usage(prompt: int, cached: int, generated: int) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + generated,
        "completion_tokens": generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


class ResponseEncoder:
    """The JSON around an answer: `chat` or plain, for one request."""

    def __init__(self, *, chat: bool, id: str, created: int, model: str) -> None:
        self.chat = chat
        self._common_fields: dict[str, Any] = {"id": id, "created": created, "model": model}
        self._object_type = "chat.completion" if chat else "text_completion"
        chunk = self._encode_chunk_event([{"index": 0, "MARK": None, "logprobs": None, "finish_reason": None}])
        mark = b'"delta":{"content":"' if chat else b'"text":"'
        before, after = chunk.split(b'"MARK":null')
        # answers are ASCII letters and spaces: nothing to escape, so a chunk is put together without a JSON encoder
        self._before, self._after = before + mark, (b'"}' if chat else b'"') + after

    def encode_first_chunk(self) -> bytes:
        """The event that opens a chat answer; nothing for a completion."""
        if not self.chat:
            return b""
        delta = {"role": "assistant", "content": ""}
        return self._encode_chunk_event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])

    def encode_chunk(self, text: str) -> bytes:
        """An event with some more text."""
        return self._before + text.encode() + self._after

    def encode_last_chunk(self, text: str, finish: str) -> bytes:
        """The event with the end of the text and the reason for it."""
        part: dict[str, Any] = {"delta": {"content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        return self._encode_chunk_event([choice])

    def encode_usage_chunk(self, counts: dict[str, Any]) -> bytes:
        """The event with the usage, after the last choice."""
        return self._encode_chunk_event([], usage=counts)

    def encode_response(self, text: str, finish: str, counts: dict[str, Any]) -> bytes:
        """The answer to a request that does not stream."""
        part: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        return msgspec.json.encode(
            {**self._common_fields, "object": self._object_type, "choices": [choice], "usage": counts}
        )

    def _encode_chunk_event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = self._object_type + ".chunk" * self.chat
        event = {**self._common_fields, "object": kind, "choices": choices, **more}
        return b"data: " + msgspec.json.encode(event) + b"\n\n"
