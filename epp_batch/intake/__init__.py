"""From what a person names to what there is to do: files found, opened, hashed, named, given a model, put in order.

Reads files and asks servers, with threads of its own; knows nothing of clusters.
"""

from epp_batch.intake.gathering import IntakeResult, gather_recordings
from epp_batch.intake.grouping import build_units
from epp_batch.intake.rules import ModelRules

__all__ = ["IntakeResult", "ModelRules", "gather_recordings", "build_units"]
