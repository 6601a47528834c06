"""Envoy's access log stream: every entry reaches the sink."""

from __future__ import annotations

import logging

from epp.pb import access_log_service_pb2
from epp.services import access_log

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


def encode_entries(*request_ids: str) -> bytes:
    message = access_log_service_pb2.StreamAccessLogsMessage()
    for request_id in request_ids:
        message.http_logs.log_entry.add().request.request_id = request_id
    return message.SerializeToString()


def test_entries_reach_the_sink_in_order(dial):
    found: list[str] = []
    call = dial(access_log.access_log_methods(lambda entry: found.append(entry.request_id))[METHOD])(
        encode_entries("a", "b"), encode_entries("c")
    )
    assert found == ["a", "b", "c"]
    assert (call.sent, call.status) == ([], None)


def test_a_message_with_nothing_but_an_identifier_has_no_entries(dial):
    message = access_log_service_pb2.StreamAccessLogsMessage()
    message.identifier.log_name = "epp"
    found: list[object] = []
    dial(access_log.access_log_methods(found.append)[METHOD])(message.SerializeToString())
    assert found == []


def test_an_entry_on_which_the_sink_fails_is_skipped(dial, caplog):
    found: list[str] = []

    def sink(entry):
        if entry.request_id == "bad":
            raise ZeroDivisionError
        found.append(entry.request_id)

    with caplog.at_level(logging.ERROR, logger="epp.services.access_log"):
        call = dial(access_log.access_log_methods(sink)[METHOD])(encode_entries("a", "bad", "b"))
    assert found == ["a", "b"]
    assert call.status is None
    assert "an access log entry failed" in caplog.text


def test_malformed_message_is_an_invalid_argument(dial):
    assert dial(access_log.access_log_methods(lambda entry: None)[METHOD])(b"\xff").status == 3


def test_half_close_finishes_the_stream(dial):
    dialled = dial(access_log.access_log_methods(lambda entry: None)[METHOD])
    dialled.handler.on_half_close()
    assert dialled.call.status == 0
