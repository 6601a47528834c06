"""Error responses of the API server by what a caller does about them."""

from __future__ import annotations

import pytest

from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.errors import Conflict, Forbidden, Gone, Invalid, NotFound, TooManyRequests, error_from_response


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"message": "jobs.batch x not found"}', NotFound),
        (409, b"{}", Conflict),
        (410, b"{}", Gone),
        (504, b'{"message": "Too large resource version: 9, current: 3"}', Gone),
        (401, b"", Forbidden),
        (403, b'{"message": "cannot create resource"}', Forbidden),
        (403, b'{"message": "forbidden: exceeded quota: jobs"}', TooManyRequests),
        (422, b'{"message": "spec is invalid"}', Invalid),
        (429, b"", TooManyRequests),
        (503, b"no json", ApiServerUnreachable),
        (405, b"", ClusterError),
    ],
)
def test_type_of_an_error_response(status: int, body: bytes, kind: type):
    assert type(error_from_response("GET /x", status, body)) is kind


def test_retry_after_of_a_429_response():
    error = error_from_response("GET /x", 429, b"", "7")
    assert isinstance(error, TooManyRequests)
    assert error.retry_after_seconds == 7.0
    assert error_from_response("GET /x", 429, b"", "soon").retry_after_seconds == 1.0  # type: ignore[attr-defined]
