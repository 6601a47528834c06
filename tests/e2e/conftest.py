"""The real `epp serve` as a process, simulated model servers, and an ext_proc client."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio

from epp.clock import SystemClock
from epp.gateway.net import bind_socket
from epp.pb import ext_proc_pb2 as pb
from epp.pb import health_pb2
from epp.pb.core_pb2 import HeaderMap, HeaderValue
from epp.sim.engine import SimEngineConfig
from epp.sim.fleet import SimFleet
from epp.sim.hardware import HARDWARE_PRESETS
from tests.speech import load_librivox_sentences
from tests.transcribing import join_wav_files

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
START_SECONDS = 20


class Picker:
    """One `epp serve` process; `async with` ends it."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        tls: ssl.SSLContext | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._kept = [bind_socket("127.0.0.1", 0, "") for _ in range(3)]
        self.grpc, self.health, self.metrics = (sock.getsockname()[1] for sock in self._kept)
        self.log = folder / f"epp-{self.grpc}.log"
        ports = [f"--grpc-port={self.grpc}", f"--grpc-health-port={self.health}", f"--metrics-port={self.metrics}"]
        self.command = [sys.executable, "-m", "epp", *flags, *ports, "--host=127.0.0.1"]
        self._tls = tls
        self._environment = {**os.environ, **(environment or {})}
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Picker:
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdout=log, stderr=log, env=self._environment
            )
        async with asyncio.timeout(START_SECONDS):
            while not await self.answers("/readyz"):
                if self.process.returncode is not None:
                    pytest.fail(f"epp serve ended with {self.process.returncode}:\n{self.log.read_text()}")
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.process is not None and self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        for sock in self._kept:
            sock.close()

    async def answers(self, path: str) -> bool:
        """Whether the admin page says 200."""
        try:
            await self.page(path)
        except aiohttp.ClientError:
            return False
        return True

    async def page(self, path: str) -> Any:
        """An admin page; JSON ones decoded."""
        url = f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.metrics}{path}"
        session = aiohttp.ClientSession(raise_for_status=True)
        async with session as http, http.get(url, ssl=self._tls or True) as reply:
            return await (reply.json() if path.startswith("/debug") else reply.text())

    def channel(self) -> grpc.aio.Channel:
        """In clear."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc}")

    async def secure_channel(self) -> grpc.aio.Channel:
        """With TLS, trusting whatever certificate is served at this moment."""
        certificate = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", self.grpc))
        options = [("grpc.ssl_target_name_override", "localhost")]
        credentials = grpc.ssl_channel_credentials(certificate.encode())
        return grpc.aio.secure_channel(f"127.0.0.1:{self.grpc}", credentials, options)


class Stream:
    """One request of Envoy's, message by message."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = channel.stream_stream(
            PROCESS, pb.ProcessingRequest.SerializeToString, pb.ProcessingResponse.FromString
        )()

    async def request(self, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> pb.ProcessingResponse:
        """Sends headers and body, reads both answers (the body's must be the body); the answer to the headers."""
        await self._call.write(pb.ProcessingRequest(request_headers=pb.HttpHeaders(headers=_headers(path, headers))))
        await self._call.write(pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True)))
        reply: pb.ProcessingResponse = await self.read()
        if reply.HasField("request_headers"):
            assert (await self.read()).request_body.response.body_mutation.streamed_response.body == body
        return reply

    async def respond(self, *chunks: bytes) -> None:
        """Sends response headers and chunks, and reads the answers."""
        status = HeaderMap(headers=[HeaderValue(key=":status", raw_value=b"200")])
        await self._call.write(pb.ProcessingRequest(response_headers=pb.HttpHeaders(headers=status)))
        await self.read()
        for i, chunk in enumerate(chunks):
            body = pb.HttpBody(body=chunk, end_of_stream=i + 1 == len(chunks))
            await self._call.write(pb.ProcessingRequest(response_body=body))
            await self.read()

    async def read(self) -> Any:
        """The next answer; None at the end of the stream."""
        reply = await self._call.read()
        return None if reply is grpc.aio.EOF else reply

    async def close(self) -> grpc.StatusCode:
        """Half-closes and waits for the end."""
        await self._call.done_writing()
        code: grpc.StatusCode = await self._call.code()
        return code


def _headers(path: str, more: dict[str, str]) -> HeaderMap:
    values = {":path": path, ":method": "POST", "content-type": "application/json", **more}
    return HeaderMap(headers=[HeaderValue(key=name, raw_value=value.encode()) for name, value in values.items()])


def destination(reply: pb.ProcessingResponse) -> str:
    """Where the request goes; header and metadata must agree."""
    mutation = reply.request_headers.response.header_mutation
    named = {option.header.key: option.header.raw_value.decode() for option in mutation.set_headers}
    target = named["x-gateway-destination-endpoint"]
    assert reply.dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"] == target
    return target


async def health_of(port: int, service: str) -> int:
    """The serving status of one name."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        status: int = (await check(health_pb2.HealthCheckRequest(service=service))).status
        return status


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[SimFleet]:
    """Three simulated model servers."""
    config = SimEngineConfig(hardware=HARDWARE_PRESETS["fast"], num_gpu_blocks=500)
    async with SimFleet(config, SystemClock(), ports=[0, 0, 0]) as running:
        yield running


@pytest.fixture
def tools() -> Any:
    """What the tests of this folder use, as one name."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six windows of speech, three batches of two: five sentences, six times."""
    path = tmp_path_factory.mktemp("speech") / "long.wav"
    join_wav_files(path, [source for source, _ in load_librivox_sentences()] * 6)
    return path
