"""What a person or a program sees of a run while it goes on; nothing here decides anything."""

from epp_batch.progress_view.choice import choose
from epp_batch.progress_view.protocol import View
from epp_batch.progress_view.run_tracker import Standing, Tracker

__all__ = ["Standing", "Tracker", "View", "choose"]
