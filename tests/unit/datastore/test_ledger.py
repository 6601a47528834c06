"""Reservations are counted at one slot or none, and leave their counts exactly once."""

from math import inf

import pytest

from epp.api import DECODING_REQUESTS, INFLIGHT_REQUESTS, INFLIGHT_TOKENS
from epp.clock import ManualClock
from epp.datastore.ledger import Ledger


@pytest.fixture
def ledger(clock: ManualClock) -> Ledger:
    return Ledger(clock, expire_after=300)


def counts_at(ledger: Ledger, slot: int) -> tuple[float, float, float]:
    """(requests, tokens, decoding) at a slot."""
    columns = ledger.columns(slot + 1)
    return tuple(float(columns[column][slot]) for column in (INFLIGHT_REQUESTS, INFLIGHT_TOKENS, DECODING_REQUESTS))


def test_counts_from_reservation_to_release(ledger: Ledger) -> None:
    reservation = ledger.reserve(2, 500.0)
    assert counts_at(ledger, 2) == (1, 500, 0)
    ledger.record_first_byte(reservation)
    assert counts_at(ledger, 2) == (1, 0, 1)
    assert ledger.release(reservation)
    assert counts_at(ledger, 2) == (0, 0, 0)
    assert len(ledger) == 0


def test_first_byte_and_release_are_idempotent(ledger: Ledger) -> None:
    reservation, other = ledger.reserve(0, 10.0), ledger.reserve(0, 7.0)
    ledger.record_first_byte(reservation)
    ledger.record_first_byte(reservation)
    assert counts_at(ledger, 0) == (2, 7, 1)
    assert [ledger.release(reservation), ledger.release(reservation)] == [True, False]
    ledger.record_first_byte(reservation)
    assert counts_at(ledger, 0) == (1, 7, 0)
    assert ledger.reserved_before(0, inf) == [other]


def test_reserved_output_tokens_keep_the_prompt_tokens_until_release(ledger: Ledger) -> None:
    reservation = ledger.reserve(0, 100.0, 40.0)
    ledger.record_first_byte(reservation)
    assert counts_at(ledger, 0) == (1, 140, 1)
    ledger.release(reservation)
    assert counts_at(ledger, 0) == (0, 0, 0)


def test_move_counts_the_request_at_the_serving_slot(ledger: Ledger) -> None:
    reservation = ledger.reserve(0, 100.0)
    ledger.move(reservation, 3)
    assert (counts_at(ledger, 0), counts_at(ledger, 3), reservation.slot) == ((0, 0, 0), (1, 100, 0), 3)
    ledger.record_first_byte(reservation)
    ledger.move(reservation, 1)
    assert (counts_at(ledger, 3), counts_at(ledger, 1)) == ((0, 0, 0), (1, 0, 1))
    ledger.release(reservation)
    ledger.move(reservation, 0)
    assert (counts_at(ledger, 0), counts_at(ledger, 1)) == ((0, 0, 0), (0, 0, 0))


def test_an_untouched_reservation_expires_once(ledger: Ledger, clock: ManualClock) -> None:
    idle, streaming = ledger.reserve(0, 1.0), ledger.reserve(0, 2.0)
    clock.advance(200)
    ledger.touch(streaming)
    late = ledger.reserve(0, 4.0)
    clock.advance(100)
    assert ledger.expire() == [idle]
    assert not ledger.release(idle)
    assert counts_at(ledger, 0)[:2] == (2, 6)
    clock.advance(200)
    assert ledger.expire() == [streaming, late]
    assert ledger.expire() == []
    assert counts_at(ledger, 0) == (0, 0, 0)


def test_reservations_of_a_removed_endpoint_do_not_count_for_the_next_endpoint_at_its_slot(ledger: Ledger) -> None:
    old = ledger.reserve(0, 10.0)
    ledger.clear_slot(0)
    new = ledger.reserve(0, 5.0)
    assert ledger.reserved_before(0, inf) == [new]
    ledger.record_first_byte(old)
    assert ledger.release(old)
    assert counts_at(ledger, 0) == (1, 5, 0)


def test_a_reservation_of_a_removed_endpoint_can_still_expire_or_move(ledger: Ledger, clock: ManualClock) -> None:
    lost, rerouted = ledger.reserve(0, 10.0), ledger.reserve(0, 20.0)
    ledger.clear_slot(0)
    ledger.move(rerouted, 1)
    assert counts_at(ledger, 1) == (1, 20, 0)
    clock.advance(300)
    assert ledger.expire() == [lost, rerouted]
    assert counts_at(ledger, 1) == (0, 0, 0)


def test_reserved_before_lists_the_reservations_that_a_scrape_already_counts(
    ledger: Ledger, clock: ManualClock
) -> None:
    seen = ledger.reserve(0, 1.0)
    moved = ledger.reserve(1, 1.0)
    clock.advance(0.010)
    started = clock.now()
    unseen = ledger.reserve(0, 1.0)
    ledger.move(moved, 0)
    assert ledger.reserved_before(0, started) == [seen, moved]
    assert unseen in ledger.reserved_before(0, inf)
    assert ledger.reserved_before(5000, started) == []


def test_columns_have_the_requested_capacity_and_are_read_only(ledger: Ledger) -> None:
    reservation = ledger.reserve(3, 8.0)
    columns = ledger.columns(1000)
    assert len(columns[INFLIGHT_TOKENS]) >= 1000
    assert columns[INFLIGHT_TOKENS].dtype == "float32"
    with pytest.raises(ValueError, match="read-only"):
        columns[INFLIGHT_TOKENS][3] = 0
    ledger.reserve(5000, 9.0)
    assert counts_at(ledger, 5000) == (1, 9, 0)
    assert counts_at(ledger, 3) == (1, 8, 0)
    assert "slot=3" in repr(reservation)


def test_clearing_an_unused_slot_has_no_effect(ledger: Ledger) -> None:
    ledger.clear_slot(12345)
    assert ledger.reserved_before(12345, inf) == []


def test_fractional_tokens_sum_to_zero_after_release(ledger: Ledger) -> None:
    reservations = [ledger.reserve(0, 0.1 * i) for i in range(50)]
    for reservation in reservations[::2]:
        ledger.record_first_byte(reservation)
    for reservation in reservations:
        ledger.release(reservation)
    assert counts_at(ledger, 0) == (0, 0, 0)


def test_rounding_errors_do_not_remain_after_release(ledger: Ledger) -> None:
    reservations = [ledger.reserve(0, tokens) for tokens in (0.1, 0.2, 0.3)]
    for reservation in reservations:
        ledger.record_first_byte(reservation)  # 0.1 + 0.2 + 0.3 - 0.1 - 0.2 - 0.3 > 0
    for reservation in reservations:
        ledger.release(reservation)
    assert counts_at(ledger, 0) == (0, 0, 0)


@pytest.mark.parametrize("tokens", [float("nan"), -1.0, float("inf")])
def test_invalid_token_counts_are_rejected(ledger: Ledger, tokens: float) -> None:
    with pytest.raises(ValueError, match="tokens"):
        ledger.reserve(0, tokens)
    assert counts_at(ledger, 0) == (0, 0, 0)
