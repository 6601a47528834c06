"""The scraper against small real servers."""

import asyncio
import logging
import ssl
from random import Random

import numpy as np
import pytest

from epp.api import RUNNING_REQUESTS
from epp.clock import SystemClock
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor, MetricsDataSource
from epp.datalayer.scrape.scraper import Scraper
from epp.datastore.endpoint_store import EndpointStore
from epp.errors import ConfigError
from epp.tasks import Tasks

PAGE = b"vllm:num_requests_waiting 3\nvllm:num_requests_running 1\n"


def sized(page: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page


async def plain(server, reader, writer):
    while True:
        await server.request(reader)
        writer.write(sized(PAGE))


async def chunked_in_small_writes(server, reader, writer):
    while True:
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(PAGE), 10):
            piece = PAGE[i : i + 10]
            writer.write(b"%x\r\n" % len(piece))
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(piece + b"\r\n")
        writer.write(b"0\r\n\r\n")


async def one_answer_a_connection(server, reader, writer):
    await server.request(reader)
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + PAGE)


async def closes_idle_connections(server, reader, writer):
    for _ in range(2):
        await server.request(reader)
        writer.write(sized(PAGE))


async def closes_as_the_request_comes(server, reader, writer):
    await closes_idle_connections(server, reader, writer)
    await server.request(reader)


@pytest.mark.parametrize(
    "handler",
    [
        plain,
        chunked_in_small_writes,
        one_answer_a_connection,
        closes_idle_connections,
        closes_as_the_request_comes,
    ],
)
async def test_pages_arrive_again_and_again(scraping, handler):
    async with scraping(handler) as (harness, server, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 6)
        assert (harness.value(slot), harness.value(slot, RUNNING_REQUESTS)) == (3, 1)
        assert harness.faults == []
        assert server.requests[0].startswith(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_one_connection_is_kept(scraping):
    async with scraping(plain) as (harness, server, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 5)
        assert server.connections == 1


async def hangs(server, reader, writer):
    await server.request(reader)
    await reader.read()


async def closes_at_once(server, reader, writer):
    await server.request(reader)


async def garbage(server, reader, writer):
    await server.request(reader)
    writer.write(b"\x16\x03\x01 what?\r\n\r\n")


async def not_found(server, reader, writer):
    await server.request(reader)
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


async def another_page(server, reader, writer):
    while True:
        await server.request(reader)
        writer.write(sized(b"up 1\n"))


@pytest.mark.parametrize(
    ("handler", "fault", "reason"),
    [
        (hangs, "poll", "no answer within 0.02 s"),
        (closes_at_once, "poll", "connection closed after 0 bytes"),
        (garbage, "poll", "no HTTP/1 answer"),
        (not_found, "poll", "status 404"),
        (another_page, "extract", "no series of engine 'vllm'"),
    ],
)
async def test_failures_are_told_once_and_tried_again_later(scraping, handler, fault, reason, caplog):
    async with scraping(handler, timeout=0.02 if handler is hangs else 10.0) as (harness, _, slot):
        await harness.until(lambda: len(harness.faults) >= 4)
        assert set(harness.faults) == {fault}
        assert harness.table.failure_count(slot) >= 4
        assert np.isnan(harness.value(slot))
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("endpoint a: no metrics from http://127.0.0.1:")
    assert reason in warning


async def test_nobody_listens(scraping):
    async with scraping(plain) as (harness, _, slot):
        gone = await harness.serve(plain)
        await gone.close()
        dead = harness.add(gone.port, name="b")
        await harness.until(lambda: len(harness.faults) >= 2 and harness.scrapes[slot] >= 2)
        assert set(harness.faults) == {"poll"}
        assert harness.scrapes[dead] == 0


async def test_a_server_that_keeps_failing_is_asked_ever_more_rarely(scraping):
    async with scraping(plain, longest_pause=2.0) as (harness, _, slot):
        failing = await harness.serve(not_found)
        harness.add(failing.port, name="b")
        await harness.until(lambda: harness.scrapes[slot] >= 100)
        # Pauses of 2, 4, 8 … turns: six or seven tries in a hundred turns; a steady beat would have made them all.
        assert 1 <= len(failing.requests) <= 10


async def test_a_server_that_fails_for_a_while_comes_back(scraping, caplog):
    caplog.set_level("INFO")

    async def ill_for_three_requests(server, reader, writer):
        while True:
            await server.request(reader)
            if 2 < len(server.requests) <= 5:
                return
            writer.write(sized(PAGE))

    async with scraping(ill_for_three_requests) as (harness, _, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 4)
        assert harness.table.failure_count(slot) == 0
    assert any("metrics are back after" in record.getMessage() for record in caplog.records)


async def test_values_of_a_dead_server_grow_stale(scraping):
    async def dies_after_two(server, reader, writer):
        while len(server.requests) < 2:
            await server.request(reader)
            writer.write(sized(PAGE))

    async with scraping(dies_after_two, staleness=0.05) as (harness, _, slot):
        await harness.until(lambda: harness.scrapes[slot] == 2)
        await harness.until(lambda: np.isnan(harness.value(slot)))
        assert harness.scrapes[slot] == 2


async def test_membership_is_followed(scraping):
    async with scraping(plain) as (harness, _, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 1)
        other = await harness.serve(plain)
        second = harness.add(other.port, name="b")
        await harness.until(lambda: harness.scrapes[second] >= 2)
        harness.table.remove("b")
        seen = harness.scrapes[second]
        await other.close()  # returns once its connection is gone
        reached = harness.scrapes[slot] + 3
        await harness.until(lambda: harness.scrapes[slot] >= reached)
        assert harness.scrapes[second] == seen
        assert harness.faults == []


async def test_a_changed_engine_label_changes_what_is_read(scraping):
    async def sglang(server, reader, writer):
        while True:
            await server.request(reader)
            writer.write(sized(PAGE + b"sglang:num_queue_reqs 9\n"))

    async with scraping(sglang) as (harness, _, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 1)
        assert harness.value(slot) == 3
        port = harness.table.get_endpoint(slot).port
        assert harness.add(port, **{"llm-d.ai/engine-type": "sglang"}) == slot
        await harness.until(lambda: harness.value(slot) == 9)


async def test_one_request_at_a_time(scraping):
    answer = asyncio.Event()

    async def slow(server, reader, writer):
        while True:
            await server.request(reader)
            await answer.wait()
            writer.write(sized(PAGE))

    async with scraping(slow) as (harness, server, slot):
        other = await harness.serve(plain)
        second = harness.add(other.port, name="b")
        await harness.until(lambda: harness.scrapes[second] >= 10)
        assert len(server.requests) == 1
        answer.set()
        await harness.until(lambda: harness.scrapes[slot] >= 2)


async def test_the_path_of_the_source(scraping):
    async with scraping(plain, source=MetricsDataSource(path="/custom?x=1")) as (harness, server, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 1)
        assert server.requests[0].startswith(b"GET /custom?x=1 HTTP/1.1\r\n")


async def test_https(scraping, certificate):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with scraping(plain, tls, source=MetricsDataSource(scheme="https")) as (harness, server, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 3)
        assert server.connections == 1
    verified = MetricsDataSource(scheme="https", insecure_skip_verify=False, ca_cert_path=str(certificate))
    async with scraping(plain, tls, source=verified) as (harness, server, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 1)
    unverified = MetricsDataSource(scheme="https", insecure_skip_verify=False)
    async with scraping(plain, tls, source=unverified) as (harness, server, slot):
        await harness.until(lambda: len(harness.faults) >= 1)
        assert harness.scrapes[slot] == 0


def test_certificates_that_cannot_be_used(tmp_path):
    source = MetricsDataSource(scheme="https", insecure_skip_verify=False, ca_cert_path=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"metrics-data-source: cannot use .*none\.pem"):
        Scraper(EndpointStore(SystemClock()), source, CoreMetricsExtractor(), SystemClock(), Tasks("test"), Random(1))
