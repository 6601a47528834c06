"""Each refusal is waited out as long as its reason says."""

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


def pauses(refusal, count):
    return [compute_retry_delay(refusal, before, Random(before)).seconds for before in range(count)]


@pytest.mark.parametrize(
    ("refusal", "first", "longest"),
    [
        (AttemptFailure(status=429, reason=SATURATED), 0.5, 15),
        (AttemptFailure(status=503, reason=NO_ENDPOINTS), 5, 60),
        (AttemptFailure(status=503), 1, 30),
        (AttemptFailure(status=429), 1, 30),
        (AttemptFailure(), 1, 30),
    ],
)
def test_pauses_double_up_to_a_limit_with_at_most_a_quarter_on_top(refusal, first, longest):
    for before, seconds in enumerate(pauses(refusal, 12)):
        nominal = min(longest, first * 2**before)
        assert nominal <= seconds <= 1.25 * nominal


def test_a_picker_that_shuts_down_is_left_at_once_and_then_with_patience():
    refusal = AttemptFailure(status=503, reason=SHUTTING_DOWN)
    first, second, *_, last = pauses(refusal, 12)
    assert first == 0
    assert 0.5 <= second <= 0.625
    assert 5 <= last <= 6.25
    assert compute_retry_delay(refusal, 0, Random(0)).reconnect


def test_only_who_does_not_answer_or_goes_is_left_for_another():
    assert not compute_retry_delay(AttemptFailure(status=429, reason=SATURATED), 0, Random(0)).reconnect
    assert not compute_retry_delay(AttemptFailure(status=503, reason=NO_ENDPOINTS), 0, Random(0)).reconnect
    assert compute_retry_delay(AttemptFailure(message="connection refused"), 0, Random(0)).reconnect


@pytest.mark.parametrize("reason", [SATURATED, NO_ENDPOINTS, SHUTTING_DOWN, ""])
def test_nobody_comes_back_before_the_server_said(reason):
    refusal = AttemptFailure(status=503, reason=reason, retry_after=100.0)
    assert all(100 <= seconds <= 125 for seconds in pauses(refusal, 3))


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
def test_retry_after_in_all_its_forms(headers, seconds):
    assert parse_retry_after(headers, NOW) == seconds


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504])
def test_what_may_pass(status):
    assert AttemptFailure(status=status).is_retryable
    assert not AttemptFailure(status=status, permanent=True).is_retryable


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 413, 422])
def test_what_stays(status):
    assert not AttemptFailure(status=status).is_retryable


def test_an_outage_lasts_until_an_answer():
    outage = OutageTimer(60.0)
    assert [outage.record_failure(100.0 + second) for second in (0, 10, 50)] == [0, 10, 50]
    outage.record_answer()
    assert outage.record_failure(155.0) == 0


def test_an_outage_that_nobody_looked_at_for_long_begins_anew():
    outage = OutageTimer(60.0)
    assert outage.record_failure(0.0) == 0
    assert outage.record_failure(60.0) == 60
    assert outage.record_failure(121.0) == 0
