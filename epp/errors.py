"""The exception classes of picker and batch stage.

A class of its own exists where a caller decides differently:

    EppError
    ├── ConfigError              start-up ends; lists every problem found, each with its path
    ├── DataSourceError          one endpoint's state cannot be read; the data source backs off
    ├── DecodeError              a peer's bytes are not the expected message; ends its RPC
    └── Rejection                the client gets an HTTP response from the picker
        ├── BadRequest           400
        ├── PayloadTooLarge      413
        ├── Overloaded           429
        ├── HeadersTooLarge      431
        ├── InternalError        500
        └── ServiceUnavailable   503
            ├── NoEndpoints      no endpoint is eligible
            └── DeadlineExceeded the decision took too long
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple


class EppError(Exception):
    """Base of all exceptions that the project raises on purpose.

    Pickled by their attributes, because `__init__` takes other arguments than `args`: errors of worker processes reach
    the parent whole.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, (type(self), self.args, vars(self))


def _rebuild_error(kind: type[EppError], args: tuple[object, ...], state: dict[str, object]) -> EppError:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class Problem(NamedTuple):
    """One thing that is wrong with a configuration: where (a path in the file, or a flag), and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(EppError):
    """The configuration cannot be used. `problems` lists everything that is wrong with it, not only the first."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        prefix = f"{source}: " if source else ""
        count = len(self.problems)
        title = f"{prefix}{count} problem{'s' if count != 1 else ''} in the configuration"
        super().__init__("\n".join([title, *(f"  {problem}" for problem in self.problems)]))


class DataSourceError(EppError):
    """The state of one endpoint cannot be read: no answer, or an answer that is not what it should be."""


class DecodeError(EppError, ValueError):
    """The bytes are not the expected protobuf message, or are a message without any known field."""


class Rejection(EppError):
    """A response that the picker sends to the client instead of routing the request (ext_proc ImmediateResponse).

    `status` is the HTTP status. `code` and the form of the body, `inference error: <code> - <message>`, are llm-d's.
    `dropped_reason` is the value of the response header `x-llm-d-request-dropped-reason`; empty: no such header.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "Internal"
    dropped_reason: str = ""

    def __init__(self, message: str, *, dropped_reason: str | None = None) -> None:
        self.message = message
        if dropped_reason is not None:
            self.dropped_reason = dropped_reason
        super().__init__(message)


class BadRequest(Rejection):
    """The request is malformed: the client gets the same answer if it repeats it."""

    status = 400
    code = "BadRequest"


class PayloadTooLarge(Rejection):
    """The body is larger than `--max-request-body`."""

    status = 413
    code = "PayloadTooLarge"


class Overloaded(Rejection):
    """The pool is saturated; the client may repeat the request later."""

    status = 429
    code = "ResourceExhausted"
    dropped_reason = "rejected-saturated"


class HeadersTooLarge(Rejection):
    """The request headers are larger than `--max-request-headers` (RFC 6585 section 5)."""

    status = 431
    code = "HeadersTooLarge"


class InternalError(Rejection):
    """A defect of the picker, or a gateway that does not keep to the protocol."""


class ServiceUnavailable(Rejection):
    """The request cannot be served at present."""

    status = 503
    code = "ServiceUnavailable"


class NoEndpoints(ServiceUnavailable):
    """No endpoint is eligible for the request."""

    dropped_reason = "rejected-no-endpoints"


class DeadlineExceeded(ServiceUnavailable):
    """The decision took longer than `--decision-timeout`."""
