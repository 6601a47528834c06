import numpy as np

from epp.api import Endpoints, Request, Scorer, Scores
from example_plugins.producers import DISTANCE, TENANT


class TenantScorer(Scorer, type="tenant-scorer"):
    """Prefer close endpoints labelled with the tenant of the request."""

    consumes = (DISTANCE, TENANT)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        mine = np.array([tenant == request[TENANT] for tenant in endpoints.label_values("tenant")], np.float32)
        return mine / (1 + endpoints[DISTANCE])
