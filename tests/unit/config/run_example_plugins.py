"""One request through the package `example_plugins`; test_third_party.py runs this where the package is installed.

Reads a configuration from stdin, prints what happened as JSON.
"""

from __future__ import annotations

import asyncio
import json
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from epp.api import (
    AsyncProducer,
    DataSource,
    Discovery,
    Endpoint,
    Extractor,
    Filter,
    LoadEstimator,
    Parser,
    Picker,
    PrefixCacheStatsProvider,
    Producer,
    ProfileHandler,
    RequestHeaderProvider,
    RequestHooks,
    Scorer,
    StateDumper,
)
from epp.api.columns import INFLIGHT_TOKENS, RUNNING_REQUESTS, WAITING_REQUESTS
from epp.clock import ManualClock
from epp.config.loader import load_config
from epp.config.plan import PickerPlan
from epp.config.registry import PluginRegistry
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.obs.metrics import Metrics
from epp.requestcontrol.completion import ObservedCompletion
from epp.requestcontrol.director import Director, DirectorOptions
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from epp.testing import (
    check_async_producer,
    check_data_source,
    check_discovery,
    check_extractor,
    check_filter,
    check_load_estimator,
    check_parser,
    check_picker,
    check_prefix_cache_stats_provider,
    check_producer,
    check_profile_handler,
    check_request_header_provider,
    check_request_hooks,
    check_scorer,
    check_state_dumper,
)

DISTRIBUTION = "example-plugins"


STATES = [b'{"waiting": 1, "running": 2}\n', b'{"waiting": 2, "temperature": 60}\n', b"{}\n"]


@contextmanager
def serve_lines(lines: list[bytes]) -> Iterator[int]:
    """The port of a thread that writes the lines to each connection, and the last one again and again."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                self.wfile.write(b"".join(lines))
                while True:
                    time.sleep(0.01)
                    self.wfile.write(lines[-1])
            except OSError:  # the reader has closed the connection
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def check_board(discovery: Any) -> None:
    listed = {"list": [{"name": "a", "address": "10.0.0.1", "port": 8000}]}
    with serve_lines([json.dumps(listed).encode() + b"\n", b'{"delete": "b"}\n']) as discovery.port:
        assert [endpoint.name for endpoint in check_discovery(discovery)] == ["a"]


def check_push_source(source: DataSource) -> None:
    with serve_lines(STATES) as port:
        check_data_source(source, Endpoint("a", "127.0.0.1", 8000, labels={"push-port": str(port)}))


def check_contracts(registry: PluginRegistry) -> list[str]:
    """Checks every plugin of the package; returns "type interface" of each check that was made."""
    from example_plugins.producers import TENANT  # type: ignore[import-not-found]

    checks: dict[type, Any] = {
        AsyncProducer: check_async_producer,
        DataSource: check_push_source,
        Discovery: check_board,
        Extractor: lambda extractor: check_extractor(extractor, STATES, malformed=[b"[]", b"x"]),
        Filter: check_filter,
        LoadEstimator: check_load_estimator,
        Parser: lambda parser: check_parser(parser, requests=[("/plain", b"m: once")]),
        Picker: check_picker,
        PrefixCacheStatsProvider: check_prefix_cache_stats_provider,
        Producer: check_producer,
        ProfileHandler: lambda handler: check_profile_handler(handler, profiles=("decode", "prefill")),
        RequestHeaderProvider: check_request_header_provider,
        RequestHooks: check_request_hooks,
        Scorer: lambda scorer: check_scorer(scorer, attributes={TENANT: "a"}),
        StateDumper: check_state_dumper,
    }
    made = []
    for plugin_type in registry:
        if registry.package_of(plugin_type) != DISTRIBUTION:
            continue
        for interface, check in checks.items():
            if issubclass(registry.find_class(plugin_type), interface):
                check(registry.find_class(plugin_type)())
                made.append(f"{plugin_type} {interface.__name__}")
    return made


async def route_one_request(plan: PickerPlan) -> dict[str, Any]:
    clock, metrics = ManualClock(), Metrics()
    store = EndpointStore(clock)
    writer = store.create_writer((WAITING_REQUESTS, RUNNING_REQUESTS))
    ledger = Ledger(clock)
    for name, port, waiting, labels in (
        ("long-queue", 1, 500.0, {"hops": "0", "tenant": "tenant-of-m"}),
        ("far", 2, 0.0, {"hops": "9", "tenant": "tenant-of-m"}),
        ("close", 3, 0.0, {"hops": "1", "tenant": "tenant-of-m"}),
        ("other-tenant", 4, 0.0, {"hops": "0", "tenant": "x"}),
    ):
        slot = store.upsert(Endpoint(name, "10.0.0.1", port, labels))
        values = {WAITING_REQUESTS: waiting, RUNNING_REQUESTS: 1.0}
        writer.record(slot, store.generation_of(slot), clock.now(), values, None)
    director = Director(
        plan, store, ledger, ObservedCompletion(), metrics, clock, Random(1), DirectorOptions(), lambda record: None
    )
    decision = director.route_request(RequestHeaders({":path": "/plain", "x-request-id": "1"}), b"m: once upon")
    assert not isinstance(decision, RoutingDecision), "an asynchronous producer takes part"
    routed = await decision
    tokens = ledger.columns()[INFLIGHT_TOKENS].tolist()[2]
    routed.request.on_response_headers(200, {})
    routed.request.on_response_body(b"a time ")
    routed.request.on_response_body(b"there was")
    routed.request.finalize("completed")
    store.remove("close")
    recency = plan.plugins_by_name()["recency-scorer"]
    assert isinstance(recency, StateDumper)
    assert isinstance(recency, PrefixCacheStatsProvider)
    exposition, _ = await metrics.render_exposition()
    return {
        "destination": routed.destination,
        "headers": dict(routed.set_headers),
        "estimated_tokens": tokens,
        "state": recency.dump_state(),
        "observed_prompts": recency.prefix_cache_stats().hit_ratio.cumulative()[-1],
        "plugin_errors": [line for line in exposition.decode().splitlines() if line.startswith("epp_plugin_faults")],
        "output_tokens": [
            float(line.split()[-1])
            for line in exposition.decode().splitlines()
            if line.startswith("llm_d_epp_request_output_tokens_sum")
        ],
    }


def main() -> None:
    registry = PluginRegistry.load()
    assert not any(name.startswith("example_plugins") for name in sys.modules), "imported before it was named"
    plan = load_config(sys.stdin.read(), registry)
    result = asyncio.run(route_one_request(plan))
    print(
        json.dumps(
            {
                **result,
                "warnings": [str(warning) for warning in plan.warnings],
                "short_bytes": plan.plugins_by_name()["short-prompt-scorer"].short_bytes,  # type: ignore[attr-defined]
                "checks": check_contracts(registry),
            }
        )
    )


if __name__ == "__main__":
    main()
