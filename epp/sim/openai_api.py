"""OpenAI's completions and chat completions as vLLM 0.32 implements them: request bodies, and encoded responses."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from epp.errors import EppError
from epp.sim import tokens

JSON_CONTENT_TYPE = "application/json"
SSE_CONTENT_TYPE = "text/event-stream; charset=utf-8"
SSE_DONE = b"data: [DONE]\n\n"


class OpenAIError(EppError):
    """The request gets an error response. `type` is OpenAI's error type."""

    def __init__(self, status: int, message: str, type: str = "BadRequestError", param: str | None = None) -> None:
        self.status = status
        self.type = type
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
    """The fields of both request bodies. `stop`, sampling parameters and unknown fields are accepted and ignored."""

    model: str | None = None
    max_tokens: int | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    cache_salt: str | None = None
    ignore_eos: bool = False

    @property
    def output_limit(self) -> int | None:
        """The greatest number of output tokens; None if the client sets none."""
        return self.max_tokens

    def encode_prompt(self) -> bytes:
        """The tokens of the prompt; raises OpenAIError."""
        raise NotImplementedError


class CompletionRequest(GenerationRequest, kw_only=True):
    """`POST /v1/completions`."""

    prompt: Any

    def encode_prompt(self) -> bytes:
        """The prompt may be a text, a list of token ids, or a list with one of these."""
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
        """The conversation in the chat template."""
        if not self.messages:
            raise OpenAIError(400, "messages must not be empty", param="messages")
        return tokens.encode_chat(self.messages, self.tools)


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """`POST /tokenize`."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None


T = TypeVar("T")


def decode_body(data: bytes, body_type: type[T]) -> T:
    """The body; raises OpenAIError, which names the wrong field."""
    try:
        return msgspec.json.decode(data, type=body_type)
    except msgspec.DecodeError as error:
        raise OpenAIError(400, str(error)) from None


def build_usage(prompt: int, cached: int, output: int) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + output,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


class ResponseEncoder:
    """Encodes the response to one request, as chat completion if `chat`, otherwise as completion."""

    def __init__(self, *, chat: bool, id: str, created: int, model: str) -> None:
        self.chat = chat
        self._common_fields: dict[str, Any] = {"id": id, "created": created, "model": model}
        self._object_type = "chat.completion" if chat else "text_completion"
        chunk = self._encode_chunk_event([{"index": 0, "TEXT": None, "logprobs": None, "finish_reason": None}])
        field = b'"delta":{"content":"' if chat else b'"text":"'
        before, after = chunk.split(b'"TEXT":null')
        # Answers are ASCII letters and spaces, which JSON does not escape: chunks need no JSON encoder.
        self._before, self._after = before + field, (b'"}' if chat else b'"') + after

    def encode_first_chunk(self) -> bytes:
        """The event with the role, which opens a chat completion; empty for a completion."""
        if not self.chat:
            return b""
        delta = {"role": "assistant", "content": ""}
        return self._encode_chunk_event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])

    def encode_chunk(self, text: str) -> bytes:
        """An event with the next part of the text."""
        return self._before + text.encode() + self._after

    def encode_last_chunk(self, text: str, finish_reason: str) -> bytes:
        """The event with the last part of the text and the finish reason."""
        part: dict[str, Any] = {"delta": {"content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
        return self._encode_chunk_event([choice])

    def encode_usage_chunk(self, usage: dict[str, Any]) -> bytes:
        """The event with the usage, which follows the last choice."""
        return self._encode_chunk_event([], usage=usage)

    def encode_response(self, text: str, finish_reason: str, usage: dict[str, Any]) -> bytes:
        """The whole response to a request without streaming."""
        part: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
        return msgspec.json.encode(
            {**self._common_fields, "object": self._object_type, "choices": [choice], "usage": usage}
        )

    def _encode_chunk_event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        object_type = self._object_type + ".chunk" * self.chat
        event = {**self._common_fields, "object": object_type, "choices": choices, **more}
        return b"data: " + msgspec.json.encode(event) + b"\n\n"
