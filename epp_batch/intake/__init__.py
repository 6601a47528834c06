"""From what a person names to what there is to do: files found, opened, hashed, named, given a model, put in order.

Reads files and asks servers, with threads of its own; knows nothing of clusters.
"""

from epp_batch.intake.gather import IntakeResult, gather_recordings
from epp_batch.intake.model_rules import ModelRules
from epp_batch.intake.units import build_units

__all__ = ["IntakeResult", "ModelRules", "gather_recordings", "build_units"]
