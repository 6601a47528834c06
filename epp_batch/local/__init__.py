"""Local runs: the worker of a pod, in processes on this machine, for `epp-batch transcribe`.

Flows in: a run without cluster settings, its output folder, worker processes. Flows out: transcripts and sidecars
(written by the workers), events in the journal, updates of the progress view, a `LocalRunOutcome`.

`WorkerPool` owns the queue of units and the outcome; each `WorkerProcess` owns one child process, its stdin and stdout,
and replaces it after a crash, which fails one recording only. The journal uses the events of a cluster run: `admitted`
when a worker takes a unit. Transcription itself is in `worker`.
"""

from epp_batch.local.pool import LocalRunOutcome, WorkerPool

__all__ = ["LocalRunOutcome", "WorkerPool"]
