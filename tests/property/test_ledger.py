"""The ledger against a model that counts from scratch: never negative, always back to zero, in any order of events."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from epp.api import DECODING_REQUESTS, INFLIGHT_REQUESTS, INFLIGHT_TOKENS
from epp.clock import ManualClock
from epp.datastore.ledger import Ledger, Reservation

slots = st.integers(0, 3)
tokens = st.one_of(st.integers(0, 200_000).map(float), st.floats(0, 1e5))
EXPIRY = 10.0


class ModelReservation:
    """What is true of one ticket."""

    def __init__(self, slot: int, prompt: float, output: float, now: float) -> None:
        self.slot: int | None = slot
        self.prompt = prompt
        self.output = output
        self.reserved = self.touched = now
        self.decoding = False
        self.over = False

    @property
    def weight(self) -> float:
        return self.prompt + self.output if self.output or not self.decoding else 0.0


class LedgerMachine(RuleBasedStateMachine):
    tickets = Bundle("tickets")

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(self.clock, expire_after=EXPIRY)
        self.truth: dict[Reservation, ModelReservation] = {}

    @rule(target=tickets, slot=slots, prompt=tokens, output=st.one_of(st.just(0.0), tokens))
    def reserve(self, slot: int, prompt: float, output: float) -> Reservation:
        ticket = self.ledger.reserve(slot, prompt, output)
        self.truth[ticket] = ModelReservation(slot, prompt, output, self.clock.now())
        return ticket

    @rule(ticket=tickets)
    def first_byte(self, ticket: Reservation) -> None:
        self.ledger.record_first_byte(ticket)
        truth = self.truth[ticket]
        if not truth.over:
            truth.decoding = True
            truth.touched = self.clock.now()

    @rule(ticket=tickets)
    def touch(self, ticket: Reservation) -> None:
        self.ledger.touch(ticket)
        self.truth[ticket].touched = self.clock.now()

    @rule(ticket=tickets, slot=slots)
    def move(self, ticket: Reservation, slot: int) -> None:
        self.ledger.move(ticket, slot)
        if not self.truth[ticket].over:
            self.truth[ticket].slot = slot

    @rule(ticket=tickets)
    def release(self, ticket: Reservation) -> None:
        assert self.ledger.release(ticket) is not self.truth[ticket].over
        self.truth[ticket].over = True

    @rule(slot=slots)
    def forget(self, slot: int) -> None:
        self.ledger.clear_slot(slot)
        for truth in self.truth.values():
            if truth.slot == slot:
                truth.slot = None

    @rule(seconds=st.floats(0, EXPIRY))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def expire(self) -> None:
        limit = self.clock.now() - EXPIRY
        due = {ticket for ticket, truth in self.truth.items() if not truth.over and truth.touched <= limit}
        assert set(self.ledger.expire()) == due
        for ticket in due:
            self.truth[ticket].over = True

    @rule(slot=slots, seconds=st.floats(0, 5))
    def scrape(self, slot: int, seconds: float) -> None:
        """A scrape that began `seconds` ago replaces the reservations that it has seen."""
        moment = self.clock.now() - seconds
        seen = {
            t for t, truth in self.truth.items() if not truth.over and truth.slot == slot and truth.reserved < moment
        }
        assert set(self.ledger.reserved_before(slot, moment)) == seen
        for ticket in seen:
            self.release(ticket)

    @rule(target=tickets)
    def nothing(self) -> object:
        return multiple()

    @invariant()
    def the_columns_are_what_is_in_flight(self) -> None:
        if not hasattr(self, "ledger"):
            return
        columns = self.ledger.columns(4)
        for slot in range(4):
            here = [truth for truth in self.truth.values() if truth.slot == slot and not truth.over]
            assert columns[INFLIGHT_REQUESTS][slot] == len(here)
            assert columns[DECODING_REQUESTS][slot] == sum(truth.decoding for truth in here)
            weight = columns[INFLIGHT_TOKENS][slot]
            assert weight >= 0
            assert math.isclose(weight, sum(truth.weight for truth in here), rel_tol=1e-6, abs_tol=1e-3)
            if not here:
                assert weight == 0

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for ticket in self.truth:
            self.ledger.release(ticket)
        assert len(self.ledger) == 0
        for column in self.ledger.columns().values():
            assert not column.any()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
