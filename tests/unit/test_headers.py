"""Header and metadata keys against the texts that define them: GAIE proposal 004 and llm-d's router."""

from __future__ import annotations

from pathlib import Path

from epp import headers

ROOT = Path(__file__).parents[2]


def test_keys_of_the_endpoint_picker_protocol() -> None:
    assert (headers.LB_NAMESPACE, headers.SUBSET_HINT_NAMESPACE) == ("envoy.lb", "envoy.lb.subset_hint")
    assert headers.DESTINATION_ENDPOINT == "x-gateway-destination-endpoint"
    assert headers.DESTINATION_ENDPOINT_SERVED == "x-gateway-destination-endpoint-served"
    assert headers.DESTINATION_ENDPOINT_SUBSET == "x-gateway-destination-endpoint-subset"
    assert headers.DESTINATION_ENDPOINT_SCORES == "x-gateway-destination-endpoint-scores"


def test_response_headers_of_llm_d() -> None:
    assert headers.REQUEST_DROPPED_REASON == "x-llm-d-request-dropped-reason"
    assert headers.WENT_INTO_RESPONSE_HEADERS == "x-went-into-resp-headers"


def test_clients_control_the_decision_by_present_and_older_names() -> None:
    assert {
        "x-gateway-inference-fairness-id",
        "x-gateway-inference-objective",
        "x-gateway-model-name-rewrite",
        "x-llm-d-inference-fairness-id",
        "x-llm-d-inference-objective",
        "x-llm-d-model-name-rewrite",
        "x-llm-d-slo-tpot-ms",
        "x-llm-d-slo-ttft-ms",
        "x-llm-d-video-duration-seconds",
        "x-llm-d-video-fps",
        "x-llm-d-video-resolution",
        "x-slo-tpot-ms",
        "x-slo-ttft-ms",
    } == headers.CONTROL_HEADERS


def test_clients_cannot_set_what_picker_and_gateway_set() -> None:
    assert {
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-served",
        "x-gateway-destination-endpoint-subset",
        "x-llm-d-request-dropped-reason",
        "x-data-parallel-host-port",
        "x-encoder-hosts-ports",
        "x-kv-cache-source-host-port",
        "x-prefiller-host-port",
    } == headers.RESERVED_HEADERS


def test_no_other_module_spells_a_key() -> None:
    constants = [value for name, value in vars(headers).items() if name.isupper()]
    keys = {key for value in constants for key in ([value] if isinstance(value, str) else value)}
    for package in ("epp", "epp_batch", "scorers"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            found = [key for key in keys if f'"{key}"' in text]
            assert not found or path == ROOT / "epp/headers.py", f"{path.relative_to(ROOT)} spells {found}"
