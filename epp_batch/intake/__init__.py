"""Intake: from the sources named on the command line to the units of a run.

Flows in: files, folders, globs, URLs and manifests; the `--model` rules; the previous run of the output folder. Flows
out: recordings with content hash, duration and output stem (`gather_recordings`), failures for unreadable sources, and
named units of tasks in starting order (`build_units`).

Reads files and probes servers with threads of its own. The only state is the digest cache in the output folder, which
may be lost. Knows nothing of clusters, Jobs or workers; does not transcribe.
"""

from epp_batch.intake.gather import IntakeResult, gather_recordings
from epp_batch.intake.model_rules import ModelRules
from epp_batch.intake.units import build_units

__all__ = ["IntakeResult", "ModelRules", "build_units", "gather_recordings"]
