"""Time to read the core metrics of a 70 KB vLLM page. `python -m bench.micro.promtext`"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.micro.timing import print_time
from epp.api import Endpoint
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor

PAGE = Path(__file__).parents[2] / "tests/data/vllm/metrics_under_load.txt"
CALLS = 2000
CHANGED_VALUES = (
    (b'model_name="tiny"} 16.0\n', b'model_name="tiny"} 9.0\n'),
    (b'model_name="tiny"} 24.0\n', b'model_name="tiny"} 124.0\n'),
    (b"0.0703296703296703", b"0.0803"),
    (b"1.7952417871502306e+09", b"1.8952417871502306e+09"),
)


def main() -> None:
    """Prints microseconds per page."""
    page = PAGE.read_bytes()
    other = page
    for before, after in CHANGED_VALUES:
        other = other.replace(before, after)
    reader = CoreMetricsExtractor().open(Endpoint(name="a", address="10.0.0.1", port=8000))
    buffer, changed, without_lora = bytearray(page), bytearray(other), page.replace(b"lora_requests_info", b"lora")

    def read_first_page() -> None:
        reader.reset()
        reader.read(buffer)

    pages = cycle((buffer, changed))
    print_time("first page", read_first_page, CALLS)
    print_time("the same values as before", lambda: reader.read(buffer), CALLS)
    print_time("waiting, running, KV cache and LoRA changed", lambda: reader.read(next(pages)), CALLS)
    print_time("no LoRA on the page", lambda: reader.read(without_lora), CALLS)
    text = page.decode()
    print_time("prometheus_client, the whole page", lambda: list(text_string_to_metric_families(text)), 3)


if __name__ == "__main__":
    main()
