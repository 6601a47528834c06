"""What an API server's refusals mean to a caller.

ClusterError             (epp_batch.errors) refused, and nothing here knows better
├── NotFound             404: no such object, or no such API
├── Conflict             409: it exists, or has changed meanwhile
├── Gone                 410: the version asked for is too old; list again
├── Forbidden            401, 403: these credentials may not
├── Invalid              400, 422: the object is wrong, or a webhook refused it
└── Unreachable          (epp_batch.errors) no answer, 5xx: try again
    └── Busy             429: try again after `seconds`
"""

from __future__ import annotations

import contextlib

import msgspec

from epp_batch.errors import ApiServerUnreachable, ClusterError


class NotFound(ClusterError):
    """There is no such object."""


class Conflict(ClusterError):
    """The object exists already, or has changed since it was read."""


class Gone(ClusterError):
    """The resource version is no longer in the server's history."""


class Forbidden(ClusterError):
    """These credentials may not do this."""


class Invalid(ClusterError):
    """The object breaks a rule of the API, or an admission webhook refused it."""


class TooManyRequests(ApiServerUnreachable):
    """The server sheds load."""

    def __init__(self, message: str, *, seconds: float = 1.0) -> None:
        self.retry_after_seconds = seconds
        super().__init__(message)


class ApiStatus(msgspec.Struct, frozen=True):
    """The part of a `Status` object that is read."""

    message: str = ""
    reason: str = ""
    code: int = 0


def error_from_response(call: str, status: int, body: bytes, retry_after: str = "") -> ClusterError:
    """The exception that an answer of `status` stands for."""
    text = f"{call}: {status} {_status_message(body)}".rstrip()
    match status:
        case 404:
            return NotFound(text)
        case 409:
            return Conflict(text)
        case 410:
            return Gone(text)
        case _ if "Too large resource version" in text:
            return Gone(text)  # the server's history is younger than ours: etcd was restored
        case 401:
            return Forbidden(text, remedy="log in again, or give other credentials with --kubeconfig and --context")
        case 403 if "exceeded quota" in text:
            return TooManyRequests(text, seconds=5.0)
        case 403:
            return Forbidden(text, remedy="ask for a Role that allows it; deploy/kueue has one for batch users")
        case 400 | 422:
            return Invalid(text)
        case 429:
            return TooManyRequests(text, seconds=_parse_retry_after(retry_after))
        case _ if status >= 500:
            return ApiServerUnreachable(text)
    return ClusterError(text)


def _status_message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=ApiStatus).message
    except msgspec.DecodeError:
        return body[:300].decode(errors="replace").strip()


def _parse_retry_after(text: str) -> float:
    with contextlib.suppress(ValueError):
        return max(0.1, float(text))
    return 1.0
