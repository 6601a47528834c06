"""`epp serve` as a process: an unchanged configuration of llm-d, TLS, signals, completion modes, start-up errors."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from pathlib import Path

import aiohttp
import grpc
import pytest

from epp.address import split_host_port
from epp.clock import SystemClock
from epp.grpc import tls
from epp.sim.fleet import SimFleet
from tests.e2e.picker_process import ExtProcStream, PickerProcess, destination_of, health_status

CHAT = json.dumps({"model": "sim", "messages": [{"role": "user", "content": "hello " * 50}]}).encode()

LLM_D = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- name: file-discovery
  type: file-discovery
  parameters:
    path: {path}
    watchFile: true
- type: decode-filter
- type: queue-scorer
- type: running-requests-size-scorer
- name: max-score-picker
  type: max-score-picker
- name: single-profile-handler
  type: single-profile-handler
  parameters:
    scorer: queue
    picker: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: decode-filter
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: running-requests-size-scorer
    weight: 1
  - pluginRef: max-score-picker
dataLayer:
  discovery:
    pluginRef: file-discovery
"""


def format_endpoint_file(targets: list[str], roles: list[str]) -> str:
    """The file of llm-d's file discovery, with ports as strings."""
    rows = []
    for i, (target, role) in enumerate(zip(targets, roles, strict=True)):
        address, port = split_host_port(target)
        rows.append({"name": f"pod-{i}", "address": address, "port": str(port), "labels": {"llm-d.ai/role": role}})
    return json.dumps({"endpoints": rows})


async def test_an_llm_d_configuration_is_discovered_scraped_scored_and_picked(fleet: SimFleet, tmp_path: Path) -> None:
    targets = list(fleet.targets)
    endpoints, config = tmp_path / "endpoints.yaml", tmp_path / "config.yaml"
    endpoints.write_text(format_endpoint_file(targets, ["prefill", "decode", "decode"]))
    config.write_text(LLM_D.format(path=endpoints))
    flags = (
        "--pool-name=pool", "--pool-namespace=ns", "--zap-encoder=json", f"--config-file={config}", "--v=3",
        "--tracing=false", "--secure-serving=false", "--metrics-endpoint-auth=false",
    )  # fmt: skip
    async with PickerProcess(tmp_path, *flags) as picker, picker.open_channel() as channel:
        answers = [asyncio.ensure_future(keep_busy(targets[1])) for _ in range(2)]
        await wait_until_running(picker, "default/pod-1", 2)
        for _ in range(5):
            stream = ExtProcStream(channel)
            assert destination_of(await stream.send_request(CHAT)) == targets[2]
            await stream.send_response(b"{}")
            assert await stream.close() is grpc.StatusCode.OK
        endpoints.write_text(format_endpoint_file(targets[:1], ["both"]))  # watchFile: true
        async with asyncio.timeout(10):
            while len((await picker.fetch_page("/debug/state"))["endpoints"]) != 1:
                await asyncio.sleep(0.05)
        assert destination_of(await ExtProcStream(channel).send_request(CHAT)) == targets[0]
        page = await picker.fetch_page("/metrics")
        assert 'llm_d_epp_ready_endpoints{name="pool"} 1.0' in page
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
    log = [json.loads(line) for line in picker.log.read_text().splitlines()]
    assert any("scorer" in line["msg"] and line["level"] == "warn" for line in log), (
        "a warning about the ignored parameter"
    )
    assert any(line["msg"] == "request routed" for line in log)


async def keep_busy(target: str) -> None:
    """Keeps one request running on a model server, until cancelled."""
    body = {"model": "sim", "prompt": "x", "max_tokens": 400, "stream": True}
    async with aiohttp.ClientSession() as http, http.post(f"http://{target}/v1/completions", json=body) as reply:
        await reply.read()
        await keep_busy(target)


async def wait_until_running(picker: PickerProcess, name: str, count: int) -> None:
    async with asyncio.timeout(10):
        while True:
            rows = (await picker.fetch_page("/debug/state"))["endpoints"]
            if any(row["name"] == name and row["running"] == count for row in rows):
                return
            await asyncio.sleep(0.05)


async def test_sigterm_drains_open_streams(fleet: SimFleet, tmp_path: Path) -> None:
    flags = ["--secure-serving=false", *(f"--endpoint={target}" for target in fleet.targets)]
    async with PickerProcess(tmp_path, *flags) as picker, picker.open_channel() as channel:
        stream = ExtProcStream(channel)
        destination_of(await stream.send_request(CHAT))
        assert await health_status(picker.health_port, "readiness") == 1
        picker.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while await health_status(picker.health_port, "readiness") == 1:
                await asyncio.sleep(0.02)
        assert await health_status(picker.health_port, "liveness") == 1
        assert destination_of(await ExtProcStream(channel).send_request(CHAT)), "new streams are still served"
        await stream.send_response(b"data: 1\n\n", b"data: 2\n\n")
        assert await stream.close() is grpc.StatusCode.OK
        picker.process.send_signal(signal.SIGTERM)  # the second signal ends the drain
        assert await picker.process.wait() == 0


@pytest.mark.parametrize("transport", ["native", "grpcio"])
async def test_tls_with_a_self_signed_certificate_is_the_default(
    fleet: SimFleet, tmp_path: Path, transport: str
) -> None:
    flags = [f"--transport={transport}", *(f"--endpoint={target}" for target in fleet.targets)]
    async with PickerProcess(tmp_path, *flags) as picker, await picker.open_tls_channel() as channel:
        stream = ExtProcStream(channel)
        assert destination_of(await stream.send_request(CHAT)) in fleet.targets
        await stream.send_response(b"{}")
        assert await stream.close() is grpc.StatusCode.OK


async def test_a_scrape_replaces_reservations(fleet: SimFleet, tmp_path: Path) -> None:
    flags = ["--secure-serving=false", "--completion=scrape", *(f"--endpoint={target}" for target in fleet.targets)]
    async with PickerProcess(tmp_path, *flags) as picker, picker.open_channel() as channel:
        stream = ExtProcStream(channel)
        destination_of(await stream.send_request(CHAT))
        assert await stream.receive() is None, "the stream is closed after the request phase"
        async with asyncio.timeout(5):
            while (await picker.fetch_page("/debug/state"))["totals"]["inflight_requests"]:
                await asyncio.sleep(0.02)
        page = await picker.fetch_page("/metrics")
    assert 'llm_d_epp_request_running{fairness_id="default-flow",model_name="sim"' in page


async def test_a_share_of_responses_is_observed(fleet: SimFleet, tmp_path: Path) -> None:
    flags = ["--secure-serving=false", "--completion=access-log", "--observe-responses=1"]
    async with (
        PickerProcess(tmp_path, *flags, *(f"--endpoint={target}" for target in fleet.targets)) as picker,
        picker.open_channel() as channel,
    ):
        stream = ExtProcStream(channel)
        destination_of(await stream.send_request(CHAT))
        await stream.send_response(b'{"usage": {"prompt_tokens": 7, "completion_tokens": 9}}')
        assert await stream.close() is grpc.StatusCode.OK
        page = await picker.fetch_page("/metrics")
    assert "llm_d_epp_request_output_tokens_sum" in page
    sums = [line for line in page.splitlines() if line.startswith("llm_d_epp_request_output_tokens_sum")]
    assert [line.rpartition(" ")[2] for line in sums] == ["9.0"]


async def run_epp(*words: str) -> tuple[int, str]:
    """Exit code and error output of one `epp` command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "epp", *words, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out + error).decode()


async def test_every_problem_of_a_configuration_is_reported() -> None:
    text = "plugins: [{type: nope}, {type: queue-scorer, nme: q}, {type: prefix-cache-scorer, parameters: {x: 1}}]"
    code, printed = await run_epp("serve", "--config-text", text, "--endpoint=127.0.0.1:1")
    assert code == 2
    for path in ("apiVersion", "plugins[0].type", "plugins[1]", "plugins[2].parameters"):
        assert path in printed, printed


async def test_without_a_discovery_the_error_says_how_to_give_one() -> None:
    code, printed = await run_epp("--pool-name=pool", "--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0")
    assert code == 2
    assert "--endpoint HOST:PORT" in printed
    assert "Kubernetes" in printed


async def test_a_port_in_use_is_reported(fleet: SimFleet, tmp_path: Path) -> None:
    _, taken = split_host_port(fleet.targets[0])
    code, printed = await run_epp(
        "serve",
        f"--metrics-port={taken}",
        "--host=127.0.0.1",
        "--endpoint=127.0.0.1:1",
        "--grpc-port=0",
        "--grpc-health-port=0",
    )
    assert code == 2
    assert f"--metrics-port: cannot listen on port {taken}" in printed


async def test_explain_prints_the_scores_of_a_request(fleet: SimFleet, tmp_path: Path) -> None:
    flags = ["--secure-serving=false", *(f"--endpoint={target}" for target in fleet.targets)]
    async with PickerProcess(tmp_path, *flags) as picker, picker.open_channel() as channel:
        target = destination_of(await ExtProcStream(channel).send_request(CHAT, **{"x-request-id": "why-1"}))
        code, printed = await run_epp("explain", "why-1", f"--url=http://127.0.0.1:{picker.metrics_port}")
    assert code == 0
    assert target in printed
    assert "prefix-cache-scorer" in printed


async def test_the_metrics_port_serves_tls_with_a_certificate(fleet: SimFleet, tmp_path: Path) -> None:
    chain, key = tls.create_self_signed_certificate(SystemClock())
    (tmp_path / "tls.crt").write_bytes(chain)
    (tmp_path / "tls.key").write_bytes(key)
    flags = ["--secure-serving=false", f"--metrics-cert-dir={tmp_path}", f"--endpoint={fleet.targets[0]}"]
    trusting = ssl.create_default_context(cadata=chain.decode())
    trusting.check_hostname = False
    async with PickerProcess(tmp_path, *flags, tls=trusting) as picker:
        assert "llm_d_epp_info" in await picker.fetch_page("/metrics")


async def test_an_orphaned_reservation_expires_when_the_server_is_idle(fleet: SimFleet, tmp_path: Path) -> None:
    flags = ["--secure-serving=false", "--completion=access-log", *(f"--endpoint={target}" for target in fleet.targets)]
    async with PickerProcess(tmp_path, *flags) as picker, picker.open_channel() as channel:
        destination_of(await ExtProcStream(channel).send_request(CHAT))
        assert (await picker.fetch_page("/debug/state"))["totals"]["inflight_requests"] == 1
        async with asyncio.timeout(30):  # no access log ever comes
            while (await picker.fetch_page("/debug/state"))["totals"]["inflight_requests"]:
                await asyncio.sleep(0.2)


async def test_an_empty_pool_is_a_503_with_a_reason(tmp_path: Path) -> None:
    endpoints, config = tmp_path / "endpoints.yaml", tmp_path / "config.yaml"
    endpoints.write_text("endpoints: []")
    config.write_text(LLM_D.format(path=endpoints))
    async with (
        PickerProcess(tmp_path, "--secure-serving=false", f"--config-file={config}") as picker,
        picker.open_channel() as channel,
    ):
        refused = (await ExtProcStream(channel).send_request(CHAT)).immediate_response
    assert refused.status.code == 503
    assert refused.body.startswith(b"inference error: ServiceUnavailable - ")
    assert refused.headers.set_headers[0].header.raw_value == b"rejected-no-endpoints"
