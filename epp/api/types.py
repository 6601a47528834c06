"""Types of arrays and of plugin parameters. n is the number of endpoints; arrays are ordered like `Endpoints`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
"""float32[n], NaN where unknown."""

Scores = NDArray[np.float32]
"""float32[n] in [0, 1], more is better; NaN where the scorer has no value (counts as 0.5)."""

Mask = NDArray[np.bool_]
"""bool[n]: true keeps the endpoint."""

Positions = NDArray[np.intp]
"""intp[k]: positions of the picked endpoints, best first."""

Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
PositiveCount = Annotated[int, msgspec.Meta(gt=0)]
ProducerName = Annotated[str, msgspec.Meta(description="name of the producer to read from, if not the default one")]
