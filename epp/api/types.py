"""Array and parameter types of the plugin API."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
"""float32[n]: one number an endpoint, NaN where unknown."""

Scores = NDArray[np.float32]
"""float32[n] in [0, 1]; NaN where the scorer cannot tell (counts as neutral)."""

Mask = NDArray[np.bool_]
"""bool[n]: true keeps the endpoint."""

Positions = NDArray[np.intp]
"""Positions of chosen endpoints, best first."""

Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
PositiveCount = Annotated[int, msgspec.Meta(gt=0)]
ProducerName = Annotated[str, msgspec.Meta(description="which producer is meant, if not the default one")]
