"""Log lines as a log collector reads them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from epp.obs.logs import TRACE, VERBOSE, configure_logging, format_timestamp, parse_log_level

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log() -> logging.Logger:
    logger = logging.Logger("epp.test")
    logger.propagate = False
    return logger


def read_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_line_with_the_keys_of_zap(log: logging.Logger) -> None:
    configure_logging(stream=(out := io.StringIO()), logger=log)
    log.info("request routed to %s", "pod-1", extra={"x-request-id": "abc", "scores": {"pod-1": 0.5}})
    [line] = read_lines(out)
    assert list(line) == ["level", "ts", "logger", "caller", "msg", "x-request-id", "scores"]
    assert line["level"] == "info"
    assert line["logger"] == "epp.test"
    assert line["caller"].startswith("test_logs.py:")
    assert line["msg"] == "request routed to pod-1"
    assert line["x-request-id"] == "abc"
    assert line["scores"] == {"pod-1": 0.5}
    assert line["ts"].endswith("Z")


def test_an_exception_becomes_two_fields_of_the_line(log: logging.Logger) -> None:
    configure_logging(stream=(out := io.StringIO()), logger=log)
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        log.exception("it failed")
    [line] = read_lines(out)
    assert line["level"] == "error"
    assert line["error"] == "bad\nthing"
    assert "Traceback" in line["stacktrace"]


def test_values_that_json_cannot_represent_become_strings(log: logging.Logger) -> None:
    configure_logging(stream=(out := io.StringIO()), logger=log)
    log.info("odd", extra={"value": {1, 2} | {object}, "text": "\udcff"})
    [line] = read_lines(out)
    assert line["msg"] == "odd"


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [(0, ["info"]), (2, ["info"]), (3, ["info", "verbose"]), (4, ["info", "verbose", "debug"]), (9, "all")],
)
def test_verbosity_decides_which_levels_are_logged(
    log: logging.Logger, verbosity: int, expected: list[str] | str
) -> None:
    configure_logging(stream=(out := io.StringIO()), logger=log, verbosity=verbosity)
    levels = {"info": logging.INFO, "verbose": VERBOSE, "debug": logging.DEBUG, "trace": TRACE}
    for text, level in levels.items():
        log.log(level, text)
    assert [line["msg"] for line in read_lines(out)] == (list(levels) if expected == "all" else expected)


def test_the_zap_level_takes_precedence() -> None:
    assert parse_log_level(5, "error") == logging.ERROR
    assert parse_log_level(2, "debug") == logging.DEBUG
    assert parse_log_level(2, "5") == TRACE
    with pytest.raises(ValueError, match="loud"):
        parse_log_level(2, "loud")


def test_records_below_the_level_are_not_formatted(log: logging.Logger) -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    configure_logging(stream=io.StringIO(), logger=log)
    log.debug("%s", Costly())


def test_console_lines_are_separated_by_tabs(log: logging.Logger) -> None:
    configure_logging(stream=(out := io.StringIO()), logger=log, devel=True)
    log.debug("hello", extra={"x-request-id": "abc"})
    moment, *rest = out.getvalue().rstrip("\n").split("\t")
    assert moment.endswith("Z")
    assert rest == ["DEBUG", "epp.test", "hello", '{"x-request-id":"abc"}']


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("rfc3339", "2023-11-14T22:13:20Z"),
        ("rfc3339nano", "2023-11-14T22:13:20.250000Z"),
        ("iso8601", "2023-11-14T22:13:20.250Z"),
        ("epoch", 1_700_000_000.25),
        ("millis", 1_700_000_000_250.0),
        ("nano", 1_700_000_000_250_000_000.0),
    ],
)
def test_time_encodings(encoding: str, expected: str | float) -> None:
    assert format_timestamp(1_700_000_000.25, encoding) == expected


def test_configuring_again_replaces_the_handler(log: logging.Logger) -> None:
    configure_logging(stream=(first := io.StringIO()), logger=log)
    configure_logging(stream=(second := io.StringIO()), logger=log)
    log.info("once")
    assert not first.getvalue()
    assert len(read_lines(second)) == 1
