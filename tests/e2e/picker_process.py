"""`epp serve` as a process, and an ext_proc client that plays Envoy."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from epp.gateway.net import bind_socket
from epp.pb import ext_proc_pb2 as pb
from epp.pb import health_pb2
from epp.pb.core_pb2 import HeaderMap, HeaderValue

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
START_SECONDS = 20


class PickerProcess:
    """One `epp serve` process: `async with` starts it, waits until it is ready, and kills it at the end."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        tls: ssl.SSLContext | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._reserved_ports = [bind_socket("127.0.0.1", 0, "") for _ in range(3)]
        self.grpc_port, self.health_port, self.metrics_port = (sock.getsockname()[1] for sock in self._reserved_ports)
        self.log = folder / f"epp-{self.grpc_port}.log"
        ports = [
            f"--grpc-port={self.grpc_port}",
            f"--grpc-health-port={self.health_port}",
            f"--metrics-port={self.metrics_port}",
        ]
        self.command = [sys.executable, "-m", "epp", *flags, *ports, "--host=127.0.0.1"]
        self._tls = tls
        self._environment = {**os.environ, **(environment or {})}
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> PickerProcess:
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdout=log, stderr=log, env=self._environment
            )
        async with asyncio.timeout(START_SECONDS):
            while not await self.is_ok("/readyz"):
                if self.process.returncode is not None:
                    pytest.fail(f"epp serve ended with {self.process.returncode}:\n{self.log.read_text()}")
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.process is not None and self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        for sock in self._reserved_ports:
            sock.close()

    async def is_ok(self, path: str) -> bool:
        """Whether the page of the admin server has status 200."""
        try:
            await self.fetch_page(path)
        except aiohttp.ClientError:
            return False
        return True

    async def fetch_page(self, path: str) -> Any:
        """A page of the admin server; JSON pages are decoded."""
        url = f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.metrics_port}{path}"
        session = aiohttp.ClientSession(raise_for_status=True)
        async with session as http, http.get(url, ssl=self._tls or True) as reply:
            return await (reply.json() if path.startswith("/debug") else reply.text())

    def open_channel(self) -> grpc.aio.Channel:
        """A channel without TLS to the ext_proc port."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}")

    async def open_tls_channel(self) -> grpc.aio.Channel:
        """A channel with TLS that trusts the certificate being served."""
        certificate = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", self.grpc_port))
        options = [("grpc.ssl_target_name_override", "localhost")]
        credentials = grpc.ssl_channel_credentials(certificate.encode())
        return grpc.aio.secure_channel(f"127.0.0.1:{self.grpc_port}", credentials, options)


class ExtProcStream:
    """One ext_proc stream, written and read message by message as Envoy does."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = channel.stream_stream(
            PROCESS, pb.ProcessingRequest.SerializeToString, pb.ProcessingResponse.FromString
        )()

    async def send_request(
        self, body: bytes, path: str = "/v1/chat/completions", **headers: str
    ) -> pb.ProcessingResponse:
        """Sends headers and body and reads both responses; returns that to the headers. The body must come back."""
        await self._call.write(pb.ProcessingRequest(request_headers=pb.HttpHeaders(headers=_headers(path, headers))))
        await self._call.write(pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True)))
        reply: pb.ProcessingResponse = await self.receive()
        if reply.HasField("request_headers"):
            assert (await self.receive()).request_body.response.body_mutation.streamed_response.body == body
        return reply

    async def send_response(self, *chunks: bytes) -> None:
        """Sends response headers and chunks, and reads the responses to them."""
        status = HeaderMap(headers=[HeaderValue(key=":status", raw_value=b"200")])
        await self._call.write(pb.ProcessingRequest(response_headers=pb.HttpHeaders(headers=status)))
        await self.receive()
        for i, chunk in enumerate(chunks):
            body = pb.HttpBody(body=chunk, end_of_stream=i + 1 == len(chunks))
            await self._call.write(pb.ProcessingRequest(response_body=body))
            await self.receive()

    async def receive(self) -> Any:
        """The next response; None at the end of the stream."""
        reply = await self._call.read()
        return None if reply is grpc.aio.EOF else reply

    async def close(self) -> grpc.StatusCode:
        """Half-closes the stream and waits for its status."""
        await self._call.done_writing()
        code: grpc.StatusCode = await self._call.code()
        return code


def _headers(path: str, more: dict[str, str]) -> HeaderMap:
    values = {":path": path, ":method": "POST", "content-type": "application/json", **more}
    return HeaderMap(headers=[HeaderValue(key=name, raw_value=value.encode()) for name, value in values.items()])


def destination_of(reply: pb.ProcessingResponse) -> str:
    """The destination of the request; header and dynamic metadata must agree."""
    mutation = reply.request_headers.response.header_mutation
    named = {option.header.key: option.header.raw_value.decode() for option in mutation.set_headers}
    target = named["x-gateway-destination-endpoint"]
    assert reply.dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"] == target
    return target


async def health_status(port: int, service: str) -> int:
    """The status of a service name in grpc.health.v1."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        status: int = (await check(health_pb2.HealthCheckRequest(service=service))).status
        return status
