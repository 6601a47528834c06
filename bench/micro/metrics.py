"""The cost of recording one request: routed, scheduled and ended. `python -m bench.micro.metrics`"""

from __future__ import annotations

from bench.micro.timing import print_time
from epp.api import RequestOutcome
from epp.obs.metrics import Metrics


def main() -> None:
    """Prints microseconds per request."""
    metrics = Metrics()
    outcome = RequestOutcome("completed", 200, 1.5, 0.25, prompt_tokens=900, cached_tokens=512, output_tokens=120)

    def record_request() -> None:
        metrics.record_scheduling_attempt(0.00006, "llama", "pod-1-rank-0", "default", 8000)
        metrics.record_routed_request("llama", "llama", "default-flow", 0, 4096, 900).record_end(True, 30_000, outcome)

    print_time("metrics of one request", record_request, 20_000)


if __name__ == "__main__":
    main()
