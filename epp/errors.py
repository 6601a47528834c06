"""Every exception of the project.

An exception class exists where a caller decides differently:

    EppError
    ├── ConfigError              start-up stops; carries every problem found, each with its path
    ├── SourceError              one endpoint could not be read; the poller backs off
    ├── DecodeError              bytes of a peer are not the message that was expected; ends its RPC
    ├── PluginError              a plugin broke its contract; names the plugin
    └── Reject                   the client gets an HTTP answer from us
        ├── BadRequest           400
        ├── PreconditionFailed   412
        ├── PayloadTooLarge      413
        ├── HeadersTooLarge      431
        ├── Overloaded           429
        ├── Internal             500
        └── Unavailable          503
            ├── NoEndpoints      nothing to choose from
            ├── ShuttingDown     we are draining
            └── DeadlineExceeded the decision took too long
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple


class EppError(Exception):
    """Root of everything raised on purpose. All of it may cross a process: arguments of `__init__` are not `args`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, (type(self), self.args, vars(self))


def _rebuild_error(kind: type[EppError], args: tuple[object, ...], state: dict[str, object]) -> EppError:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class Problem(NamedTuple):
    """One thing wrong with a configuration: where, and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(EppError):
    """The configuration cannot be used; `problems` lists all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        head = f"{source}: " if source else ""
        count = len(self.problems)
        title = f"{head}{count} problem{'s' if count != 1 else ''} in the configuration"
        super().__init__("\n".join([title, *(f"  {problem}" for problem in self.problems)]))


class DataSourceError(EppError):
    """Reading the state of one endpoint failed."""


class DecodeError(EppError, ValueError):
    """The bytes are not the message that was expected, or one that says nothing."""


class PluginError(EppError):
    """A plugin raised, or returned something outside its contract."""

    def __init__(self, plugin: str, message: str) -> None:
        self.plugin = plugin
        super().__init__(f"plugin {plugin!r}: {message}")


class Rejection(EppError):
    """An answer to the client instead of a route.

    `code` and the body form `inference error: <code> - <message>` are llm-d's; `dropped` is the
    value of `x-llm-d-request-dropped-reason`, empty for no such header.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "Internal"
    dropped_reason: str = ""

    def __init__(self, message: str, *, dropped: str | None = None) -> None:
        self.message = message
        if dropped is not None:
            self.dropped_reason = dropped
        super().__init__(message)


class BadRequest(Rejection):
    """The request itself is wrong; repeating it will not help."""

    status = 400
    code = "BadRequest"


class PreconditionFailed(Rejection):
    """A condition that the client asked for does not hold."""

    status = 412
    code = "PreconditionFailed"


class PayloadTooLarge(Rejection):
    """The body is larger than `--max-request-body`."""

    status = 413
    code = "PayloadTooLarge"


class HeadersTooLarge(Rejection):
    """The request headers are larger than we accept."""

    status = 431
    code = "HeadersTooLarge"


class Overloaded(Rejection):
    """The pool is too busy for this request; it may be repeated later."""

    status = 429
    code = "ResourceExhausted"
    dropped_reason = "rejected-saturated"


class InternalError(Rejection):
    """Our own fault."""


class ServiceUnavailable(Rejection):
    """Nobody can serve the request at present."""

    status = 503
    code = "ServiceUnavailable"


class NoEndpoints(ServiceUnavailable):
    """No endpoint is eligible."""

    dropped_reason = "rejected-no-endpoints"


class ShuttingDown(ServiceUnavailable):
    """The picker drains."""

    dropped_reason = "rejected-shutting-down"


class DeadlineExceeded(ServiceUnavailable):
    """The decision was not made in time."""
