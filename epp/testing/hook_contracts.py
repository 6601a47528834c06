"""Contract checks for the optional interfaces of `epp.api.hooks`. The plugin may be of any kind."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np

from epp.api import (
    PROMPT,
    BucketHistogram,
    Endpoints,
    LoadEstimate,
    LoadEstimator,
    PrefixCacheStats,
    PrefixCacheStatsProvider,
    Producer,
    Request,
    RequestHeaderProvider,
    RequestHooks,
    RequestOutcome,
    StateDumper,
    TokenizedPrompt,
)
from epp.headers import DESTINATION_ENDPOINT
from epp.testing.builders import build_endpoints, build_request
from epp.testing.contracts import DEFAULT_ATTRIBUTES, Attributes, ContractCheck

CAUSES: Final = ("completed", "disconnected", "error", "expired", "replaced")
MAX_STATE_BYTES: Final = 1 << 20
SLOTS: Final = 4


def check_request_hooks(hooks: RequestHooks, *, attributes: Attributes | None = None) -> None:
    """Runs requests through the hooks: routed and ended in every way, endpoints removed meanwhile, prompts unknown.

    No call may raise, return anything or change the request. If the plugin is a `Producer`, it produces for each
    request first.
    """
    check = ContractCheck(hooks, RequestHooks)
    given = {**DEFAULT_ATTRIBUTES, **(attributes or {})}
    pool = build_endpoints(SLOTS)
    choices: tuple[Mapping[str, int], ...] = ({"default": 0}, {"decode": 1, "prefill": 2}, {"decode": 3, "prefill": 3})
    for cause in CAUSES:
        for known in (given, {}):
            routed = [_route_request(check, hooks, pool, known, chosen) for chosen in choices]
            _call_hook(check, "endpoint_removed", 1)
            for (request, slot), status in zip(routed, (200, 0, 503), strict=True):
                outcome = RequestOutcome(cause, status, 1.5, 0.25 if status else None, 7 if status else None)
                _call_hook(check, "response_complete", request, slot, outcome)
            for slot in range(SLOTS + 2):
                _call_hook(check, "endpoint_removed", slot)


def _route_request(
    check: ContractCheck, hooks: RequestHooks, pool: Endpoints, attributes: Attributes, chosen: Mapping[str, int]
) -> tuple[Request, int]:
    request = build_request(text="once upon a time", model="m", body=b"{}", attributes=attributes)
    if isinstance(hooks, Producer):
        produced = check.require_no_error("in produce()", hooks.produce, request, pool)
        request.attributes.update({key: value for key, value in produced.items() if key in hooks.produces})
    before = msgspec.structs.asdict(request)
    _call_hook(check, "pre_request", request, MappingProxyType(dict(chosen)))
    changed = [field for field, value in msgspec.structs.asdict(request).items() if value != before[field]]
    check.require(not changed, f"pre_request() changes the request: {', '.join(changed)}")
    request.release_payload()
    return request, next(iter(chosen.values()))


def _call_hook(check: ContractCheck, method: str, *arguments: Any) -> None:
    returned = check.require_no_error(f"in {method}()", getattr(check.plugin, method), *arguments)
    if inspect.iscoroutine(returned):
        returned.close()
    check.require(returned is None, f"{method}() returned {returned!r}; it must return nothing")


def check_load_estimator(estimator: LoadEstimator, *, attributes: Attributes | None = None) -> None:
    """Checks that estimates are finite, not negative and repeatable, also where columns or the prompt are unknown."""
    check = ContractCheck(estimator, LoadEstimator)
    given = {**DEFAULT_ATTRIBUTES, **(attributes or {})}
    huge = {**given, PROMPT: TokenizedPrompt(b"", 1 << 40)}
    pools = (build_endpoints(3), build_endpoints(uncached_tokens=[0, 10, 1e9], prefix_blocks=[0, 1, 1e6]))
    for known in (given, {}, huge):
        for pool in pools:
            for position in range(len(pool)):
                request = build_request(text="once upon a time", attributes=known, max_output_tokens=5)
                one, other = (
                    check.require_no_error("in estimate_load()", estimator.estimate_load, request, pool, position)
                    for _ in range(2)
                )
                check.require(isinstance(one, LoadEstimate), f"estimate_load() returned {type(one).__name__}")
                for tokens in (one.prompt_tokens, one.output_tokens):
                    check.require(bool(np.isfinite(tokens) and tokens >= 0), f"estimate_load() returned {one}")
                check.require(one == other, f"estimate_load() returned {one}, then {other}")


def check_request_header_provider(provider: RequestHeaderProvider, *, attributes: Attributes | None = None) -> None:
    """Checks that headers are valid: names in lower case, values of one line, and never the destination."""
    check = ContractCheck(provider, RequestHeaderProvider)
    pool = build_endpoints(2)
    for names in (("default",), ("decode", "prefill"), ("prefill", "decode", "encode")):
        chosen = {name: pool.endpoint_at(i % 2) for i, name in enumerate(names)}
        request = build_request(text="x", attributes={**DEFAULT_ATTRIBUTES, **(attributes or {})})
        headers = check.require_no_error(
            "in request_headers()", provider.request_headers, request, MappingProxyType(chosen)
        )
        check.require(isinstance(headers, Mapping), f"request_headers() returned {type(headers).__name__}")
        for name, value in headers.items():
            valid_name = isinstance(name, str) and name == name.lower() and name.isascii() and name[:1] not in ("", ":")
            check.require(valid_name, f"invalid header name {name!r}")
            valid_value = isinstance(value, str) and not set("\r\n\0") & set(value)
            check.require(valid_value, f"invalid value of the header {name}: {value!r}")
            check.require(name != DESTINATION_ENDPOINT, f"sets {name}, which is the picker's")


def check_state_dumper(dumper: StateDumper) -> None:
    """Checks that the state can be encoded as JSON and is at most 1 MiB."""
    check = ContractCheck(dumper, StateDumper)
    state = check.require_no_error("in dump_state()", dumper.dump_state)
    try:
        size = len(msgspec.json.encode(state))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{type(dumper).__name__}: the state cannot be encoded as JSON: {error}") from error
    check.require(size <= MAX_STATE_BYTES, f"the state takes {size} bytes, more than {MAX_STATE_BYTES}")


def check_prefix_cache_stats_provider(provider: PrefixCacheStatsProvider) -> None:
    """Checks that the numbers are a Prometheus histogram's: ascending bounds, counts that do not fall."""
    check = ContractCheck(provider, PrefixCacheStatsProvider)
    stats = check.require_no_error("in prefix_cache_stats()", provider.prefix_cache_stats)
    check.require(isinstance(stats, PrefixCacheStats), f"prefix_cache_stats() returned {type(stats).__name__}")
    check.require(isinstance(stats.blocks, int) and stats.blocks >= 0, f"blocks is {stats.blocks!r}")
    for name, histogram in (("hit_ratio", stats.hit_ratio), ("hit_bytes", stats.hit_bytes)):
        check.require(isinstance(histogram, BucketHistogram), f"{name} is {type(histogram).__name__}")
        counts, bounds = list(histogram.cumulative()), list(histogram.bounds)
        check.require(len(counts) == len(bounds) + 1, f"{name} has {len(counts)} counts for {len(bounds)} bounds")
        check.require(all(low < high for low, high in pairwise(bounds)), f"bounds of {name} do not ascend: {bounds}")
        check.require(all(low <= high for low, high in pairwise(counts)), f"counts of {name} fall: {counts}")
