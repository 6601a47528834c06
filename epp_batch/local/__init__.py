"""A run on this machine: the same worker as in a pod, in a few processes of its own.

A process that dies takes one recording with it; the others go on, and another process takes its place.
"""

from epp_batch.local.pool import LocalRunOutcome, WorkerPool

__all__ = ["LocalRunOutcome", "WorkerPool"]
