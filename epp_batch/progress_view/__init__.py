"""What a person or a program sees of a run while it goes on; nothing here decides anything."""

from epp_batch.progress_view.choice import choose_view
from epp_batch.progress_view.protocol import ProgressView
from epp_batch.progress_view.run_tracker import RunStatus, RunTracker

__all__ = ["RunStatus", "RunTracker", "ProgressView", "choose_view"]
