"""The ledger compared with a model that counts from scratch: never negative, back to zero in any order of events."""

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
    """What the ledger should know of one reservation."""

    def __init__(self, slot: int, prompt: float, output: float, now: float) -> None:
        self.slot: int | None = slot
        self.prompt = prompt
        self.output = output
        self.reserved_at = self.touched_at = now
        self.decoding = False
        self.ended = False

    @property
    def load(self) -> float:
        return self.prompt + self.output if self.output or not self.decoding else 0.0


class LedgerMachine(RuleBasedStateMachine):
    reservations = Bundle("reservations")

    @initialize()
    def create(self) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(self.clock, expire_after=EXPIRY)
        self.models: dict[Reservation, ModelReservation] = {}

    @rule(target=reservations, slot=slots, prompt=tokens, output=st.one_of(st.just(0.0), tokens))
    def reserve(self, slot: int, prompt: float, output: float) -> Reservation:
        reservation = self.ledger.reserve(slot, prompt, output)
        self.models[reservation] = ModelReservation(slot, prompt, output, self.clock.now())
        return reservation

    @rule(reservation=reservations)
    def first_byte(self, reservation: Reservation) -> None:
        self.ledger.record_first_byte(reservation)
        model = self.models[reservation]
        if not model.ended:
            model.decoding = True
            model.touched_at = self.clock.now()

    @rule(reservation=reservations)
    def touch(self, reservation: Reservation) -> None:
        self.ledger.touch(reservation)
        self.models[reservation].touched_at = self.clock.now()

    @rule(reservation=reservations, slot=slots)
    def move(self, reservation: Reservation, slot: int) -> None:
        self.ledger.move(reservation, slot)
        if not self.models[reservation].ended:
            self.models[reservation].slot = slot

    @rule(reservation=reservations)
    def release(self, reservation: Reservation) -> None:
        assert self.ledger.release(reservation) is not self.models[reservation].ended
        self.models[reservation].ended = True

    @rule(slot=slots)
    def clear_slot(self, slot: int) -> None:
        self.ledger.clear_slot(slot)
        for model in self.models.values():
            if model.slot == slot:
                model.slot = None

    @rule(seconds=st.floats(0, EXPIRY))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def expire(self) -> None:
        limit = self.clock.now() - EXPIRY
        due = {
            reservation for reservation, model in self.models.items() if not model.ended and model.touched_at <= limit
        }
        assert set(self.ledger.expire()) == due
        for reservation in due:
            self.models[reservation].ended = True

    @rule(slot=slots, seconds=st.floats(0, 5))
    def scrape(self, slot: int, seconds: float) -> None:
        """A scrape that began `seconds` ago replaces the reservations that it contains."""
        moment = self.clock.now() - seconds
        contained = {
            reservation
            for reservation, model in self.models.items()
            if not model.ended and model.slot == slot and model.reserved_at < moment
        }
        assert set(self.ledger.reserved_before(slot, moment)) == contained
        for reservation in contained:
            self.release(reservation)

    @rule(target=reservations)
    def no_reservation(self) -> object:
        return multiple()

    @invariant()
    def columns_equal_the_model(self) -> None:
        if not hasattr(self, "ledger"):
            return
        columns = self.ledger.columns(4)
        for slot in range(4):
            at_slot = [model for model in self.models.values() if model.slot == slot and not model.ended]
            assert columns[INFLIGHT_REQUESTS][slot] == len(at_slot)
            assert columns[DECODING_REQUESTS][slot] == sum(model.decoding for model in at_slot)
            tokens_at_slot = columns[INFLIGHT_TOKENS][slot]
            assert tokens_at_slot >= 0
            assert math.isclose(tokens_at_slot, sum(model.load for model in at_slot), rel_tol=1e-6, abs_tol=1e-3)
            if not at_slot:
                assert tokens_at_slot == 0

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for reservation in self.models:
            self.ledger.release(reservation)
        assert len(self.ledger) == 0
        for column in self.ledger.columns().values():
            assert not column.any()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
