"""The metrics scrape, run by the data layer, against small servers on real sockets."""

import asyncio
import logging
import re
import ssl

import numpy as np
import pytest

from epp.api import RUNNING_REQUESTS
from epp.datalayer.scrape.metrics_data_source import MetricsDataSource, create_tls_context
from epp.errors import ConfigError

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
async def test_pages_are_scraped_at_every_interval(scraping, handler):
    async with scraping(handler) as (harness, server, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 6)
        assert (harness.value(slot), harness.value(slot, RUNNING_REQUESTS)) == (3, 1)
        assert harness.failures == []
        assert server.requests[0].startswith(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_the_connection_is_kept_alive(scraping):
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


POLL_FAILED = ("metrics-data-source", "")
EXTRACT_FAILED = ("metrics-data-source", "core-metrics-extractor")
NO_METRICS = r"endpoint a: no metrics from http://127\.0\.0\.1:\d+/metrics: "


@pytest.mark.parametrize(
    ("handler", "failure", "message"),
    [
        (hangs, POLL_FAILED, NO_METRICS + r"no answer within 0\.02 s"),
        (closes_at_once, POLL_FAILED, NO_METRICS + "connection closed after 0 bytes"),
        (garbage, POLL_FAILED, NO_METRICS + "not an HTTP/1 response"),
        (not_found, POLL_FAILED, NO_METRICS + "status 404"),
        (another_page, EXTRACT_FAILED, "endpoint a: core-metrics-extractor: no series of engine 'vllm' on the page"),
    ],
)
async def test_consecutive_failures_are_all_counted_and_logged_once(scraping, handler, failure, message, caplog):
    async with scraping(handler, timeout=0.02 if handler is hangs else 10.0) as (harness, _, slot):
        await harness.until(lambda: len(harness.failures) >= 4)
        assert set(harness.failures) == {failure}
        assert harness.consecutive_failures() >= 4
        assert np.isnan(harness.value(slot))
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match(message, warning)


async def test_a_refused_connection_is_a_poll_failure(scraping):
    async with scraping(plain) as (harness, _, slot):
        gone = await harness.serve(plain)
        await gone.close()
        dead = harness.add(gone.port, name="b")
        await harness.until(lambda: len(harness.failures) >= 2 and harness.scrapes[slot] >= 2)
        assert set(harness.failures) == {POLL_FAILED}
        assert harness.scrapes[dead] == 0


async def test_backoff_doubles_while_a_server_keeps_failing(scraping):
    async with scraping(plain, max_backoff=2.0) as (harness, _, slot):
        failing = await harness.serve(not_found)
        harness.add(failing.port, name="b")
        await harness.until(lambda: harness.scrapes[slot] >= 100)
        # Pauses of 2, 4, 8 … turns: six or seven tries in a hundred turns; a steady beat would have made them all.
        assert 1 <= len(failing.requests) <= 10


async def test_a_recovered_server_is_scraped_again_and_logged(scraping, caplog):
    caplog.set_level("INFO")

    async def ill_for_three_requests(server, reader, writer):
        while True:
            await server.request(reader)
            if 2 < len(server.requests) <= 5:
                return
            writer.write(sized(PAGE))

    async with scraping(ill_for_three_requests) as (harness, _, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 4)
        assert harness.consecutive_failures() == 0
    assert any("metrics-data-source works again after" in record.getMessage() for record in caplog.records)


async def test_values_of_a_dead_server_become_unknown(scraping):
    async def dies_after_two(server, reader, writer):
        while len(server.requests) < 2:
            await server.request(reader)
            writer.write(sized(PAGE))

    async with scraping(dies_after_two, staleness=0.05) as (harness, _, slot):
        await harness.until(lambda: harness.scrapes[slot] == 2)
        await harness.until(lambda: np.isnan(harness.value(slot)))
        assert harness.scrapes[slot] == 2


async def test_endpoints_are_scraped_from_when_they_join_until_they_leave(scraping):
    async with scraping(plain) as (harness, _, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 1)
        other = await harness.serve(plain)
        second = harness.add(other.port, name="b")
        await harness.until(lambda: harness.scrapes[second] >= 2)
        harness.store.remove("b")
        seen = harness.scrapes[second]
        await other.close()  # returns once its connection is gone
        reached = harness.scrapes[slot] + 3
        await harness.until(lambda: harness.scrapes[slot] >= reached)
        assert harness.scrapes[second] == seen
        assert harness.failures == []


async def test_a_changed_engine_label_selects_another_engine(scraping):
    async def sglang(server, reader, writer):
        while True:
            await server.request(reader)
            writer.write(sized(PAGE + b"sglang:num_queue_reqs 9\n"))

    async with scraping(sglang) as (harness, _, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 1)
        assert harness.value(slot) == 3
        port = harness.store.get_endpoint(slot).port
        assert harness.add(port, **{"llm-d.ai/engine-type": "sglang"}) == slot
        await harness.until(lambda: harness.value(slot) == 9)


async def test_one_request_is_in_flight_per_endpoint(scraping):
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


async def test_the_configured_path_is_requested(scraping):
    async with scraping(plain, source=MetricsDataSource(path="/custom?x=1")) as (harness, server, slot):
        await harness.until(lambda: harness.scrapes[slot] >= 1)
        assert server.requests[0].startswith(b"GET /custom?x=1 HTTP/1.1\r\n")


async def test_https_with_and_without_verification(scraping, certificate):
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
        await harness.until(lambda: len(harness.failures) >= 1)
        assert harness.scrapes[slot] == 0


def test_an_unusable_certificate_file_is_a_config_error(tmp_path):
    source = MetricsDataSource(scheme="https", insecure_skip_verify=False, ca_cert_path=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"metrics-data-source: cannot use .*none\.pem"):
        create_tls_context(source)
