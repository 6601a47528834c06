"""Each refusal is waited out as long as its reason says."""

from __future__ import annotations

from random import Random

import pytest

from epp_batch.summaries.retry import NO_ENDPOINTS, SATURATED, SHUTTING_DOWN, Outage, Refusal, retry_after, wait

NOW = 1_700_000_000.0


def pauses(refusal, count):
    return [wait(refusal, before, Random(before)).seconds for before in range(count)]


@pytest.mark.parametrize(
    ("refusal", "first", "longest"),
    [
        (Refusal(status=429, reason=SATURATED), 0.5, 15),
        (Refusal(status=503, reason=NO_ENDPOINTS), 5, 60),
        (Refusal(status=503), 1, 30),
        (Refusal(status=429), 1, 30),
        (Refusal(), 1, 30),
    ],
)
def test_pauses_double_up_to_a_limit_with_at_most_a_quarter_on_top(refusal, first, longest):
    for before, seconds in enumerate(pauses(refusal, 12)):
        nominal = min(longest, first * 2**before)
        assert nominal <= seconds <= 1.25 * nominal


def test_a_picker_that_shuts_down_is_left_at_once_and_then_with_patience():
    refusal = Refusal(status=503, reason=SHUTTING_DOWN)
    first, second, *_, last = pauses(refusal, 12)
    assert first == 0
    assert 0.5 <= second <= 0.625
    assert 5 <= last <= 6.25
    assert wait(refusal, 0, Random(0)).elsewhere


def test_only_who_does_not_answer_or_goes_is_left_for_another():
    assert not wait(Refusal(status=429, reason=SATURATED), 0, Random(0)).elsewhere
    assert not wait(Refusal(status=503, reason=NO_ENDPOINTS), 0, Random(0)).elsewhere
    assert wait(Refusal(message="connection refused"), 0, Random(0)).elsewhere


@pytest.mark.parametrize("reason", [SATURATED, NO_ENDPOINTS, SHUTTING_DOWN, ""])
def test_nobody_comes_back_before_the_server_said(reason):
    refusal = Refusal(status=503, reason=reason, retry_after=100.0)
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
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504])
def test_what_may_pass(status):
    assert Refusal(status=status).passing
    assert not Refusal(status=status, permanent=True).passing


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 413, 422])
def test_what_stays(status):
    assert not Refusal(status=status).passing


def test_an_outage_lasts_until_an_answer():
    outage = Outage(60.0)
    assert [outage.refused(100.0 + second) for second in (0, 10, 50)] == [0, 10, 50]
    outage.answered()
    assert outage.refused(155.0) == 0


def test_an_outage_that_nobody_looked_at_for_long_begins_anew():
    outage = Outage(60.0)
    assert outage.refused(0.0) == 0
    assert outage.refused(60.0) == 60
    assert outage.refused(121.0) == 0
