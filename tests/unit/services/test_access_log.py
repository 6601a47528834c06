from __future__ import annotations

import logging

from epp.pb import access_log_service_pb2
from epp.services import access_log

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


def lines(*request_ids: str) -> bytes:
    message = access_log_service_pb2.StreamAccessLogsMessage()
    for request_id in request_ids:
        message.http_logs.log_entry.add().request.request_id = request_id
    return message.SerializeToString()


def test_every_line_reaches_the_sink_in_order(dial):
    found: list[str] = []
    call = dial(access_log.access_log_methods(lambda entry: found.append(entry.request_id))[METHOD])(
        lines("a", "b"), lines("c")
    )
    assert found == ["a", "b", "c"]
    assert (call.sent, call.status) == ([], None)


def test_the_first_message_may_only_introduce_its_sender(dial):
    message = access_log_service_pb2.StreamAccessLogsMessage()
    message.identifier.log_name = "epp"
    found: list[object] = []
    dial(access_log.access_log_methods(found.append)[METHOD])(message.SerializeToString())
    assert found == []


def test_a_line_that_fails_costs_no_other_line(dial, caplog):
    found: list[str] = []

    def sink(entry):
        if entry.request_id == "bad":
            raise ZeroDivisionError
        found.append(entry.request_id)

    with caplog.at_level(logging.ERROR, logger="epp.services.access_log"):
        call = dial(access_log.access_log_methods(sink)[METHOD])(lines("a", "bad", "b"))
    assert found == ["a", "b"]
    assert call.status is None
    assert "an access log entry failed" in caplog.text


def test_nonsense_is_an_invalid_argument(dial):
    assert dial(access_log.access_log_methods(lambda entry: None)[METHOD])(b"\xff").status == 3


def test_the_stream_ends_with_the_sender(dial):
    dialled = dial(access_log.access_log_methods(lambda entry: None)[METHOD])
    dialled.handler.on_half_close()
    assert dialled.call.status == 0
