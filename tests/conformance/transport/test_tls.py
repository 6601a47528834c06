"""TLS in front of both transports."""

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


def flags(folder="", reload=False):
    return argparse.Namespace(
        cert_path=str(folder), enable_cert_reload=reload, tls_min_version="", tls_cipher_suites=[]
    )


@pytest.fixture
async def tasks():
    tasks = Tasks("tls")
    yield tasks
    await tasks.close()


def trusting(chain, alpn=("h2",)):
    context = ssl.create_default_context(cadata=chain.decode())
    context.set_alpn_protocols(list(alpn))
    return context


async def test_grpc_over_tls(kind, serve, tasks):
    context = tls.create_server_context(flags(), tasks, SystemClock())
    async with serve(kind, context) as service:
        credentials = grpc.ssl_channel_credentials(context.certificate_chain)
        async with grpc.aio.secure_channel(f"localhost:{service.server.port}", credentials) as channel:
            assert await channel.unary_unary("/t/Upper")(b"x" * 100_000) == b"X" * 100_000


async def test_alpn_says_h2(kind, serve, connect, tasks):
    context = tls.create_server_context(flags(), tasks, SystemClock())
    async with (
        serve(kind, context) as service,
        connect(service.server.port, trusting(context.certificate_chain)) as client,
    ):
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        await client.hello()
        client.request(1)
        client.message(1, b"y" * 50_000, end=True)
        await client.flush()
        await client.ends(1)
        assert client.bodies[1][5:] == b"y" * 50_000


async def test_clear_text_on_a_tls_port_does_no_harm(kind, serve, connect, tasks):
    context = tls.create_server_context(flags(), tasks, SystemClock())
    async with serve(kind, context) as service:
        async with connect(service.server.port) as client:
            await client.hello()
            await client.reader.read()
        async with connect(service.server.port, trusting(context.certificate_chain)) as client:
            await client.hello()
            assert await client.events()


async def served(port, hung_up):
    """The certificate that a new connection sees."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await hung_up(writer)
    return ssl.DER_cert_to_PEM_cert(found)


class Transport(asyncio.Transport):
    """A connection whose TLS handshake has just ended."""

    aborted = False

    def abort(self):
        self.aborted = True


async def test_a_handshake_that_outlasts_the_server_ends_with_it():
    server, transport = GrpcServer({}, SystemClock()), Transport()
    await server.close()
    Http2Protocol(server).connection_made(transport)
    assert transport.aborted
    assert not server.protocols


async def test_a_certificate_that_changes(kind, serve, hung_up, tasks, tmp_path, caplog):
    def write(pair):
        (tmp_path / tls.PRIVATE_KEY_FILE).write_bytes(pair[1])
        (tmp_path / tls.CERTIFICATE_FILE).write_bytes(pair[0])

    async def sees(chain):
        async with asyncio.timeout(20):
            while (await served(service.server.port, hung_up)) != chain.decode():
                await asyncio.sleep(0.02)

    attempts = itertools.count()
    first, second = tls.create_self_signed_certificate(SystemClock()), tls.create_self_signed_certificate(SystemClock())
    write(first)
    async with serve(kind, tls.create_server_context(flags(tmp_path, reload=True), tasks, SystemClock())) as service:
        await sees(first[0])
        async with asyncio.timeout(20):
            # Again and again: nobody can tell when the watch has begun.
            while "the old one stays in use" not in caplog.text:
                write((b"broken", b"broken %d" % next(attempts)))
                await asyncio.sleep(0.02)
        await sees(first[0])
        write(second)
        await sees(second[0])
