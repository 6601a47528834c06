from math import inf

import pytest

from epp.api import DECODING, INFLIGHT_REQUESTS, INFLIGHT_TOKENS
from epp.clock import ManualClock
from epp.datastore.ledger import Ledger


@pytest.fixture
def ledger(clock: ManualClock) -> Ledger:
    return Ledger(clock, expire_after=300)


def counts(ledger: Ledger, slot: int) -> tuple[float, float, float]:
    """(requests, tokens, decoding) at a slot."""
    columns = ledger.columns(slot + 1)
    return tuple(float(columns[column][slot]) for column in (INFLIGHT_REQUESTS, INFLIGHT_TOKENS, DECODING))


def test_a_request_from_reservation_to_release(ledger):
    ticket = ledger.reserve(2, 500.0)
    assert counts(ledger, 2) == (1, 500, 0)
    ledger.first_byte(ticket)
    assert counts(ledger, 2) == (1, 0, 1)
    assert ledger.release(ticket)
    assert counts(ledger, 2) == (0, 0, 0)
    assert len(ledger) == 0


def test_first_byte_and_release_count_once(ledger):
    ticket, other = ledger.reserve(0, 10.0), ledger.reserve(0, 7.0)
    ledger.first_byte(ticket)
    ledger.first_byte(ticket)
    assert counts(ledger, 0) == (2, 7, 1)
    assert [ledger.release(ticket), ledger.release(ticket)] == [True, False]
    ledger.first_byte(ticket)
    assert counts(ledger, 0) == (1, 7, 0)
    assert ledger.reserved_before(0, inf) == [other]


def test_charged_output_tokens_keep_the_prompt_tokens_to_the_end(ledger):
    ticket = ledger.reserve(0, 100.0, 40.0)
    ledger.first_byte(ticket)
    assert counts(ledger, 0) == (1, 140, 1)
    ledger.release(ticket)
    assert counts(ledger, 0) == (0, 0, 0)


def test_a_request_served_elsewhere_counts_there(ledger):
    ticket = ledger.reserve(0, 100.0)
    ledger.move(ticket, 3)
    assert (counts(ledger, 0), counts(ledger, 3), ticket.slot) == ((0, 0, 0), (1, 100, 0), 3)
    ledger.first_byte(ticket)
    ledger.move(ticket, 1)
    assert (counts(ledger, 3), counts(ledger, 1)) == ((0, 0, 0), (1, 0, 1))
    ledger.release(ticket)
    ledger.move(ticket, 0)
    assert (counts(ledger, 0), counts(ledger, 1)) == ((0, 0, 0), (0, 0, 0))


def test_what_nothing_touches_expires_once(ledger, clock):
    idle, streaming = ledger.reserve(0, 1.0), ledger.reserve(0, 2.0)
    clock.advance(200)
    ledger.touch(streaming)
    late = ledger.reserve(0, 4.0)
    clock.advance(100)
    assert ledger.expire() == [idle]
    assert not ledger.release(idle)
    assert counts(ledger, 0)[:2] == (2, 6)
    clock.advance(200)
    assert ledger.expire() == [streaming, late]
    assert ledger.expire() == []
    assert counts(ledger, 0) == (0, 0, 0)


def test_tickets_of_a_forgotten_endpoint_do_not_count_against_the_next_one_at_its_slot(ledger):
    old = ledger.reserve(0, 10.0)
    ledger.forget(0)
    new = ledger.reserve(0, 5.0)
    assert ledger.reserved_before(0, inf) == [new]
    ledger.first_byte(old)
    assert ledger.release(old)
    assert counts(ledger, 0) == (1, 5, 0)


def test_a_forgotten_ticket_still_expires_and_may_still_be_served_elsewhere(ledger, clock):
    lost, rerouted = ledger.reserve(0, 10.0), ledger.reserve(0, 20.0)
    ledger.forget(0)
    ledger.move(rerouted, 1)
    assert counts(ledger, 1) == (1, 20, 0)
    clock.advance(300)
    assert ledger.expire() == [lost, rerouted]
    assert counts(ledger, 1) == (0, 0, 0)


def test_a_scrape_replaces_what_was_reserved_before_it_began(ledger, clock):
    seen = ledger.reserve(0, 1.0)
    moved = ledger.reserve(1, 1.0)
    clock.advance(0.010)
    started = clock.now()
    unseen = ledger.reserve(0, 1.0)
    ledger.move(moved, 0)
    assert ledger.reserved_before(0, started) == [seen, moved]
    assert unseen in ledger.reserved_before(0, inf)
    assert ledger.reserved_before(5000, started) == []


def test_columns_reach_as_far_as_asked_and_are_read_only(ledger):
    ticket = ledger.reserve(3, 8.0)
    columns = ledger.columns(1000)
    assert len(columns[INFLIGHT_TOKENS]) >= 1000
    assert columns[INFLIGHT_TOKENS].dtype == "float32"
    with pytest.raises(ValueError, match="read-only"):
        columns[INFLIGHT_TOKENS][3] = 0
    ledger.reserve(5000, 9.0)
    assert counts(ledger, 5000) == (1, 9, 0)
    assert counts(ledger, 3) == (1, 8, 0)
    assert "slot=3" in repr(ticket)


def test_forgetting_a_slot_never_used_is_fine(ledger):
    ledger.forget(12345)
    assert ledger.reserved_before(12345, inf) == []


def test_fractions_leave_nothing_behind(ledger):
    tickets = [ledger.reserve(0, 0.1 * i) for i in range(50)]
    for ticket in tickets[::2]:
        ledger.first_byte(ticket)
    for ticket in tickets:
        ledger.release(ticket)
    assert counts(ledger, 0) == (0, 0, 0)


def test_rounding_leaves_nothing_behind_either(ledger):
    tickets = [ledger.reserve(0, tokens) for tokens in (0.1, 0.2, 0.3)]
    for ticket in tickets:
        ledger.first_byte(ticket)  # 0.1 + 0.2 + 0.3 - 0.1 - 0.2 - 0.3 > 0
    for ticket in tickets:
        ledger.release(ticket)
    assert counts(ledger, 0) == (0, 0, 0)


@pytest.mark.parametrize("tokens", [float("nan"), -1.0, float("inf")])
def test_a_weight_that_is_no_weight_is_refused(ledger, tokens):
    with pytest.raises(ValueError, match="tokens"):
        ledger.reserve(0, tokens)
    assert counts(ledger, 0) == (0, 0, 0)
