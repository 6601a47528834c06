"""Views of a run while it is in progress: a live table, plain lines or JSON lines.

In:  timeline events, failures and audio positions, from the cluster's controller or the local worker pool.
Out: text on standard output and standard error.

`RunTracker` (pure) turns events into a `RunStatus` and owns the counts; a `ProgressView` prints what it is given and
owns only what it printed last. Nothing here decides anything, reads the cluster or writes the journal. What is printed
after a run has ended belongs to `epp_batch.report`.
"""

from epp_batch.progress_view.choice import choose_view
from epp_batch.progress_view.protocol import ProgressView
from epp_batch.progress_view.run_tracker import RunStatus, RunTracker

__all__ = ["ProgressView", "RunStatus", "RunTracker", "choose_view"]
