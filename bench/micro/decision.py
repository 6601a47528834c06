"""One decision, part by part: producers, and the pipeline with each preset, over pools of 10, 100 and 1,000 endpoints.

python -m bench.micro.decision

The whole director, parser and reservation included, is the scenario `decision` of bench.cost.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import perf_counter

import numpy as np

from epp.api import COUNTED, SCRAPED, Column, Endpoint, Endpoints, Request, Snapshot, Values
from epp.config import presets
from epp.config.loader import load
from epp.config.plan import Plan
from epp.config.registry import Registry
from epp.scheduling import producers, profile_run

BUDGET_US = {10: 60.0, 1000: 150.0}
PIPELINE_US = {10: 30.0, 1000: 100.0}
PROMPT_BYTES = 4096
ROUNDS = 400
REPEATS = 25


def median_of_best(work: Callable[[], object]) -> float:
    """Microseconds a call: the median of the fastest half of some batches, as the machine is shared."""
    batches = []
    for _ in range(REPEATS):
        started = perf_counter()
        for _ in range(ROUNDS):
            work()
        batches.append((perf_counter() - started) / ROUNDS * 1e6)
    return sorted(batches)[REPEATS // 4]


def pool(count: int) -> Endpoints:
    """Endpoints with every scraped and counted column filled."""
    rng = np.random.default_rng(3)
    columns: dict[Column, Values] = {}
    for column in (*SCRAPED, *COUNTED):
        values = rng.random(count) if column.unit == "fraction" else rng.integers(0, 64, count)
        columns[column] = values.astype(np.float32)
    endpoints = [Endpoint(f"e{i}", f"10.0.{i // 250}.{i % 250}", 8000) for i in range(count)]
    return Endpoints(Snapshot(columns, endpoints, np.arange(count)), np.arange(count))


def ask(text: bytes) -> Request:
    return Request(model="m", text=text)


def warmed(plan: Plan, found: Endpoints, texts: list[bytes]) -> None:
    """Lets observers (the prefix index) learn that each text went somewhere."""
    told = [plugin for plugin in plan.plugins().values() if hasattr(plugin, "picked")]
    for i, text in enumerate(texts):
        request = ask(text)
        producers.run_now(plan.producers, request, found, print)
        for plugin in told:
            plugin.picked(request, {"default": i % len(found)})


def row(what: str, microseconds: float, budget: float | None) -> None:
    verdict = "" if budget is None else f"budget {budget:>4.0f}  {'ok' if microseconds <= budget else 'MISSED'}"
    print(f"  {what:<44} {microseconds:>7.1f} us  {verdict}".rstrip())


def measure(preset: str, count: int) -> None:
    """Prints the parts for one preset and pool."""
    plan = load(presets.text(preset), Registry.load())
    base = pool(count)
    rng = Random(1)
    shared = bytes(range(256)) * (PROMPT_BYTES // 512)
    texts = [shared + Random(i).randbytes(PROMPT_BYTES - len(shared)) for i in range(64)]
    warmed(plan, base, texts)
    profile = plan.profiles["default"]
    request = ask(texts[7])
    produced = Endpoints(base._snapshot, base.slots)
    producers.run_now(plan.producers, request, produced, print)

    def view() -> Endpoints:
        return Endpoints(produced._snapshot, produced.slots, dict(produced._extra))

    def whole() -> None:
        asked = ask(texts[7])
        found = Endpoints(base._snapshot, base.slots)
        producers.run_now(plan.producers, asked, found, print)
        profile_run.run(profile, asked, found, rng, print)

    print(f"{preset}, {count} endpoints, prompt of {PROMPT_BYTES} bytes")
    for name, producer in plan.producers:

        def one(alone: producers.Producers = ((name, producer),)) -> None:
            producers.run_now(alone, request, view(), print)

        row(name, median_of_best(one), None)
    for name, _, scorer in profile.scorers:
        row(name, median_of_best(lambda scorer=scorer: scorer.score(request, view())), None)  # type: ignore[misc]
    row(
        "pipeline",
        median_of_best(lambda: profile_run.run(profile, request, view(), rng, print)),
        PIPELINE_US.get(count),
    )
    row("producers and pipeline", median_of_best(whole), BUDGET_US.get(count))


def main() -> None:
    for preset in presets.names():
        for count in (10, 100, 1000):
            measure(preset, count)


if __name__ == "__main__":
    main()
