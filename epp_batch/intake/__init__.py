"""From what a person names to what there is to do: files found, opened, hashed, named, given a model, put in order.

Reads files and asks servers, with threads of its own; knows nothing of clusters.
"""

from epp_batch.intake.gathering import Gathered, gather
from epp_batch.intake.grouping import units
from epp_batch.intake.rules import Rules

__all__ = ["Gathered", "Rules", "gather", "units"]
