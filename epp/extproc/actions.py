"""What a session wants done; bytes among the effects are a message to send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from epp.requestcontrol.interfaces import Flight, Head


class Decide(msgspec.Struct, gc=False):
    """Choose an endpoint, and call `decided` or `rejected`, now or later."""

    head: Head
    body: bytes


class Abandon(msgspec.Struct, gc=False):
    """The choice that was asked for is not needed any more."""


class Mute(msgspec.Struct, gc=False):
    """The gateway only lets us watch: nothing is sent from now on."""


class Told(msgspec.Struct, gc=False):
    """What the flight is told, if there is one."""

    def tell(self, flight: Flight) -> None:
        raise NotImplementedError


class Served(Told, gc=False):
    """The gateway says which endpoint answered."""

    target: str

    def tell(self, flight: Flight) -> None:
        flight.served(self.target)


class ResponseStarted(Told, gc=False):
    """Response headers came."""

    status: int
    headers: Mapping[str, str]

    def tell(self, flight: Flight) -> None:
        flight.response_started(self.status, self.headers)


class ResponseData(Told, gc=False):
    """A piece of the response body came."""

    data: bytes

    def tell(self, flight: Flight) -> None:
        flight.response_data(self.data)


class Over(Told, gc=False):
    """The request is over; causes as in `epp.api.Ended`."""

    cause: str

    def tell(self, flight: Flight) -> None:
        flight.ended(self.cause)


class Finish(msgspec.Struct, gc=False):
    """End the stream, after what was sent."""


Effect = bytes | Mute | Decide | Abandon | Told | Finish

MUTE: Final = Mute()
ABANDON: Final = Abandon()
FINISH: Final = Finish()
COMPLETED: Final = Over("completed")
DISCONNECTED: Final = Over("disconnected")
BROKEN: Final = Over("error")
