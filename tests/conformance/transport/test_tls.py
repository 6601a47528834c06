"""TLS with both transports."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import ssl

import grpc
import grpc.aio
import pytest

from epp.clock import SystemClock
from epp.grpc import tls
from epp.grpc.server import GrpcServer, Http2Protocol
from epp.tasks import Tasks


def tls_flags(folder="", reload=False):
    return argparse.Namespace(
        cert_path=str(folder), enable_cert_reload=reload, tls_min_version="", tls_cipher_suites=[]
    )


@pytest.fixture
async def tasks():
    tasks = Tasks("tls")
    yield tasks
    await tasks.close()


def client_context(chain, alpn=("h2",)):
    context = ssl.create_default_context(cadata=chain.decode())
    context.set_alpn_protocols(list(alpn))
    return context


async def test_grpc_over_tls(kind, serve, tasks):
    context = tls.create_server_context(tls_flags(), tasks, SystemClock())
    async with serve(kind, context) as service:
        credentials = grpc.ssl_channel_credentials(context.certificate_chain)
        async with grpc.aio.secure_channel(f"localhost:{service.server.port}", credentials) as channel:
            assert await channel.unary_unary("/t/Upper")(b"x" * 100_000) == b"X" * 100_000


async def test_alpn_negotiates_h2(kind, serve, connect, tasks):
    context = tls.create_server_context(tls_flags(), tasks, SystemClock())
    async with (
        serve(kind, context) as service,
        connect(service.server.port, client_context(context.certificate_chain)) as client,
    ):
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        await client.send_preface()
        client.send_request(1)
        client.send_message(1, b"y" * 50_000, end=True)
        await client.flush()
        await client.read_until_ended(1)
        assert client.bodies[1][5:] == b"y" * 50_000


async def test_cleartext_on_a_tls_port_does_not_affect_other_clients(kind, serve, connect, tasks):
    context = tls.create_server_context(tls_flags(), tasks, SystemClock())
    async with serve(kind, context) as service:
        async with connect(service.server.port) as client:
            await client.send_preface()
            await client.reader.read()
        async with connect(service.server.port, client_context(context.certificate_chain)) as client:
            await client.send_preface()
            assert await client.read_events()


async def fetch_certificate(port, abort_connection):
    """The certificate that a new connection gets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await abort_connection(writer)
    return ssl.DER_cert_to_PEM_cert(found)


class Transport(asyncio.Transport):
    """A connection right after its TLS handshake."""

    aborted = False

    def abort(self):
        self.aborted = True


async def test_a_connection_made_after_close_is_aborted():
    server, transport = GrpcServer({}, SystemClock()), Transport()
    await server.close()
    Http2Protocol(server).connection_made(transport)
    assert transport.aborted
    assert not server.protocols


async def test_a_changed_certificate_is_reloaded(kind, serve, abort_connection, tasks, tmp_path, caplog):
    def write_certificate(pair):
        (tmp_path / tls.PRIVATE_KEY_FILE).write_bytes(pair[1])
        (tmp_path / tls.CERTIFICATE_FILE).write_bytes(pair[0])

    async def wait_until_served(chain):
        async with asyncio.timeout(20):
            while (await fetch_certificate(service.server.port, abort_connection)) != chain.decode():
                await asyncio.sleep(0.02)

    attempts = itertools.count()
    first, second = tls.create_self_signed_certificate(SystemClock()), tls.create_self_signed_certificate(SystemClock())
    write_certificate(first)
    async with serve(
        kind, tls.create_server_context(tls_flags(tmp_path, reload=True), tasks, SystemClock())
    ) as service:
        await wait_until_served(first[0])
        async with asyncio.timeout(20):
            # Repeated, since there is no sign that the watch has started.
            while "the old one stays in use" not in caplog.text:
                write_certificate((b"broken", b"broken %d" % next(attempts)))
                await asyncio.sleep(0.02)
        await wait_until_served(first[0])
        write_certificate(second)
        await wait_until_served(second[0])
