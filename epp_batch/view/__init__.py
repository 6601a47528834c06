"""What a person or a program sees of a run while it goes on; nothing here decides anything."""

from epp_batch.view.choice import choose
from epp_batch.view.protocol import View
from epp_batch.view.standing import Standing, Tracker

__all__ = ["Standing", "Tracker", "View", "choose"]
