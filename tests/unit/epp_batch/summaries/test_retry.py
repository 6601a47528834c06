"""Retry delays, Retry-After, retryable statuses, outages."""

from __future__ import annotations

from random import Random

import pytest

from epp_batch.summaries.retry import (
    NO_ENDPOINTS,
    SATURATED,
    SHUTTING_DOWN,
    AttemptFailure,
    OutageTimer,
    compute_retry_delay,
    parse_retry_after,
)

NOW = 1_700_000_000.0


def delays(failure, count):
    return [compute_retry_delay(failure, repeats, Random(repeats)).seconds for repeats in range(count)]


@pytest.mark.parametrize(
    ("failure", "first", "longest"),
    [
        (AttemptFailure(status=429, reason=SATURATED), 0.5, 15),
        (AttemptFailure(status=503, reason=NO_ENDPOINTS), 5, 60),
        (AttemptFailure(status=503), 1, 30),
        (AttemptFailure(status=429), 1, 30),
        (AttemptFailure(), 1, 30),
    ],
)
def test_backoff_doubles_up_to_its_limit_with_jitter(failure, first, longest):
    for repeats, seconds in enumerate(delays(failure, 12)):
        nominal = min(longest, first * 2**repeats)
        assert nominal <= seconds <= 1.25 * nominal


def test_first_retry_after_a_shutdown_is_immediate():
    failure = AttemptFailure(status=503, reason=SHUTTING_DOWN)
    first, second, *_, last = delays(failure, 12)
    assert first == 0
    assert 0.5 <= second <= 0.625
    assert 5 <= last <= 6.25
    assert compute_retry_delay(failure, 0, Random(0)).reconnect


def test_reconnect_after_shutdown_or_no_answer_only():
    assert not compute_retry_delay(AttemptFailure(status=429, reason=SATURATED), 0, Random(0)).reconnect
    assert not compute_retry_delay(AttemptFailure(status=503, reason=NO_ENDPOINTS), 0, Random(0)).reconnect
    assert compute_retry_delay(AttemptFailure(message="connection refused"), 0, Random(0)).reconnect


@pytest.mark.parametrize("reason", [SATURATED, NO_ENDPOINTS, SHUTTING_DOWN, ""])
def test_retry_after_is_a_lower_bound(reason):
    failure = AttemptFailure(status=503, reason=reason, retry_after=100.0)
    assert all(100 <= seconds <= 125 for seconds in delays(failure, 3))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30),
        ({"retry-after": "Tue, 14 Nov 2000 22:13:50 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "soon"}, None),
        ({}, None),
    ],
)
def test_parse_retry_after(headers, seconds):
    assert parse_retry_after(headers, NOW) == seconds


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504])
def test_retryable_statuses(status):
    assert AttemptFailure(status=status).is_retryable
    assert not AttemptFailure(status=status, permanent=True).is_retryable


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 413, 422])
def test_permanent_statuses(status):
    assert not AttemptFailure(status=status).is_retryable


def test_answer_ends_the_outage():
    outage = OutageTimer(60.0)
    assert [outage.record_failure(100.0 + second) for second in (0, 10, 50)] == [0, 10, 50]
    outage.record_answer()
    assert outage.record_failure(155.0) == 0


def test_long_quiet_time_begins_a_new_outage():
    outage = OutageTimer(60.0)
    assert outage.record_failure(0.0) == 0
    assert outage.record_failure(60.0) == 60
    assert outage.record_failure(121.0) == 0
