import numpy as np

from epp.api import WAITING_REQUESTS, Count, Endpoints, Filter, Mask, Request


class QueueLimitFilter(Filter, type="queue-limit-filter"):
    """Remove endpoints with a long waiting queue; one whose queue is unknown stays."""

    consumes = (WAITING_REQUESTS,)
    max_waiting: Count = 100

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return ~np.greater(endpoints[WAITING_REQUESTS], self.max_waiting)
