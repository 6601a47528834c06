"""Errors of the API server by what a caller does about them (the categories of k8s.io/apimachinery's `apierrors`).

ClusterError                (epp_batch.errors) rejected for any other reason
├── NotFound                404: no such object, or the server does not serve this API
├── Conflict                409: the object exists already, or a precondition (uid, resourceVersion) does not hold
├── Gone                    410: the resourceVersion has expired; list again
├── Forbidden               401, 403: these credentials are not accepted, or not allowed to do this
├── Invalid                 400, 422: the object is invalid, or an admission webhook rejected it
└── ApiServerUnreachable    (epp_batch.errors) no response, or 5xx: retry
    └── TooManyRequests     429: retry after `retry_after_seconds`
"""

from __future__ import annotations

import contextlib

import msgspec

from epp_batch.errors import ApiServerUnreachable, ClusterError


class NotFound(ClusterError):
    """The object or the API does not exist."""


class Conflict(ClusterError):
    """The object exists already, or a precondition of the request (uid, resourceVersion) does not hold."""


class Gone(ClusterError):
    """The resourceVersion is no longer in the server's watch history."""


class Forbidden(ClusterError):
    """These credentials are not accepted, or have no right to do this."""


class Invalid(ClusterError):
    """The object violates the API's schema, or an admission webhook rejected it."""


class TooManyRequests(ApiServerUnreachable):
    """The server sheds load (API Priority and Fairness), or a ResourceQuota of the namespace is used up."""

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class ApiStatus(msgspec.Struct, frozen=True):
    """The fields that are read of a `meta/v1` Status, the body of every error response."""

    message: str = ""
    reason: str = ""
    code: int = 0


def error_from_response(request: str, status: int, body: bytes, retry_after: str = "") -> ClusterError:
    """The exception for a response with HTTP status `status`; `request` names the request: `GET /api/v1/pods`."""
    text = f"{request}: {status} {_status_message(body)}".rstrip()
    match status:
        case 404:
            return NotFound(text)
        case 409:
            return Conflict(text)
        case 410:
            return Gone(text)
        # The server is behind our resourceVersion: etcd was restored from a backup, or its watch cache lags (504).
        # client-go (isTooLargeResourceVersionError in reflector.go) lists again as well.
        case _ if "Too large resource version" in text:
            return Gone(text)
        case 401:
            return Forbidden(text, remedy="log in again, or name other credentials with --kubeconfig and --context")
        # A ResourceQuota rejects with 403 until other objects are deleted: unlike missing rights, worth a retry.
        case 403 if "exceeded quota" in text:
            return TooManyRequests(text, retry_after_seconds=5.0)
        case 403:
            return Forbidden(text, remedy="ask for a Role that allows it; deploy/kueue has one for batch users")
        case 400 | 422:
            return Invalid(text)
        case 429:
            return TooManyRequests(text, retry_after_seconds=_parse_retry_after(retry_after))
        case _ if status >= 500:
            return ApiServerUnreachable(text)
    return ClusterError(text)


def _status_message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=ApiStatus).message
    except msgspec.DecodeError:
        return body[:300].decode(errors="replace").strip()


def _parse_retry_after(text: str) -> float:
    """Seconds of a Retry-After header (RFC 9110 section 10.2.3), at least 0.1; 1 if it is missing or a date."""
    with contextlib.suppress(ValueError):
        return max(0.1, float(text))
    return 1.0
