"""Time to read the core metrics of a 70 KB vLLM page. `python -m bench.micro.promtext`"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from timeit import repeat

from prometheus_client.parser import text_string_to_metric_families

from epp.api import Endpoint
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor

PAGE = Path(__file__).parents[2] / "tests/data/vllm/metrics_under_load.txt"
CHANGES = (
    (b'model_name="tiny"} 16.0\n', b'model_name="tiny"} 9.0\n'),
    (b'model_name="tiny"} 24.0\n', b'model_name="tiny"} 124.0\n'),
    (b"0.0703296703296703", b"0.0803"),
    (b"1.7952417871502306e+09", b"1.8952417871502306e+09"),
)


def print_time(name: str, work: Callable[[], object], rounds: int = 2000, pages: int = 1) -> None:
    """Prints microseconds per page, best of five rounds."""
    print(f"{name:<48} {min(repeat(work, number=rounds, repeat=5)) / rounds / pages * 1e6:8.1f} us a page")


def main() -> None:
    page = PAGE.read_bytes()
    other = page
    for before, after in CHANGES:
        other = other.replace(before, after)
    reader = CoreMetricsExtractor().open(Endpoint(name="a", address="10.0.0.1", port=8000))
    buffer, changed, without_lora = bytearray(page), bytearray(other), page.replace(b"lora_requests_info", b"lora")

    def read_first_page() -> None:
        reader.reset()
        reader.read(buffer)

    def read_changed_pages() -> None:
        reader.read(buffer)
        reader.read(changed)

    print_time("first page", read_first_page)
    print_time("the same numbers as before", lambda: reader.read(buffer))
    print_time("waiting, running, KV use and LoRA changed", read_changed_pages, pages=2)
    print_time("no LoRA on the page", lambda: reader.read(without_lora))
    text = page.decode()
    print_time("prometheus_client, the whole page", lambda: list(text_string_to_metric_families(text)), rounds=3)


if __name__ == "__main__":
    main()
