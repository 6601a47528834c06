"""One decision by parts: producers, and the profile run of each preset, over pools of 10, 100 and 1,000 endpoints.

python -m bench.micro.decision

The whole director, parser and reservation included, is the scenario `decision` of bench.cost.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import perf_counter

import numpy as np

from epp.api import (
    LEDGER_COLUMNS,
    SCRAPED_COLUMNS,
    Column,
    Endpoint,
    Endpoints,
    Request,
    RequestHooks,
    Snapshot,
    Values,
)
from epp.config import presets
from epp.config.loader import load_config
from epp.config.plan import PickerPlan
from epp.config.registry import PluginRegistry
from epp.scheduling import producers, profile_run

BUDGET_US = {10: 60.0, 1000: 150.0}
PROFILE_RUN_BUDGET_US = {10: 30.0, 1000: 100.0}
PROMPT_BYTES = 4096
ROUNDS = 400
REPEATS = 25


def measure_microseconds(work: Callable[[], object]) -> float:
    """Microseconds a call: the median of the fastest half of some batches, as the machine is shared."""
    batches = []
    for _ in range(REPEATS):
        started = perf_counter()
        for _ in range(ROUNDS):
            work()
        batches.append((perf_counter() - started) / ROUNDS * 1e6)
    return sorted(batches)[REPEATS // 4]


def build_endpoints(count: int) -> Endpoints:
    """Endpoints with every scraped and counted column filled."""
    rng = np.random.default_rng(3)
    columns: dict[Column, Values] = {}
    for column in (*SCRAPED_COLUMNS, *LEDGER_COLUMNS):
        values = rng.random(count) if column.unit == "fraction" else rng.integers(0, 64, count)
        columns[column] = values.astype(np.float32)
    endpoints = [Endpoint(f"e{i}", f"10.0.{i // 250}.{i % 250}", 8000) for i in range(count)]
    return Endpoints(Snapshot(columns, endpoints, np.arange(count)), np.arange(count))


def build_request(text: bytes) -> Request:
    return Request(model="m", text=text)


def warm_prefix_index(plan: PickerPlan, endpoints: Endpoints, texts: list[bytes]) -> None:
    """Calls the request hooks (of the prefix index) as if each text had been routed to some endpoint."""
    hooks = [plugin for plugin in plan.plugins_by_name().values() if isinstance(plugin, RequestHooks)]
    for i, text in enumerate(texts):
        request = build_request(text)
        producers.run_sync_producers(plan.producers, request, endpoints, print)
        for plugin in hooks:
            plugin.pre_request(request, {"default": i % len(endpoints)})


def print_row(name: str, microseconds: float, budget: float | None) -> None:
    verdict = "" if budget is None else f"budget {budget:>4.0f}  {'ok' if microseconds <= budget else 'MISSED'}"
    print(f"  {name:<44} {microseconds:>7.1f} us  {verdict}".rstrip())


def print_measurements(preset: str, count: int) -> None:
    """Prints the parts for one preset and pool."""
    plan = load_config(presets.read_preset(preset), PluginRegistry.load())
    base = build_endpoints(count)
    rng = Random(1)
    shared = bytes(range(256)) * (PROMPT_BYTES // 512)
    texts = [shared + Random(i).randbytes(PROMPT_BYTES - len(shared)) for i in range(64)]
    warm_prefix_index(plan, base, texts)
    profile = plan.profiles["default"]
    request = build_request(texts[7])
    produced = Endpoints(base._snapshot, base.slots)
    producers.run_sync_producers(plan.producers, request, produced, print)

    def copy_endpoints() -> Endpoints:
        return Endpoints(produced._snapshot, produced.slots, dict(produced._produced))

    def decide() -> None:
        request = build_request(texts[7])
        endpoints = Endpoints(base._snapshot, base.slots)
        producers.run_sync_producers(plan.producers, request, endpoints, print)
        profile_run.run_profile(profile, request, endpoints, rng, print)

    print(f"{preset}, {count} endpoints, prompt of {PROMPT_BYTES} bytes")
    for name, producer in plan.producers:

        def run_alone(alone: producers.Producers = ((name, producer),)) -> None:
            producers.run_sync_producers(alone, request, copy_endpoints(), print)

        print_row(name, measure_microseconds(run_alone), None)
    for name, _, scorer in profile.scorers:
        print_row(name, measure_microseconds(lambda scorer=scorer: scorer.score(request, copy_endpoints())), None)  # type: ignore[misc]
    print_row(
        "profile run",
        measure_microseconds(lambda: profile_run.run_profile(profile, request, copy_endpoints(), rng, print)),
        PROFILE_RUN_BUDGET_US.get(count),
    )
    print_row("producers and profile run", measure_microseconds(decide), BUDGET_US.get(count))


def main() -> None:
    for preset in presets.preset_names():
        for count in (10, 100, 1000):
            print_measurements(preset, count)


if __name__ == "__main__":
    main()
