"""Structured logs with the field names of llm-d's logger (zap): one JSON object a line on stderr.

`--v 2` and below log info, warnings and errors; 3 adds one line for each request (llm-d logs three at 2 already), 4
debugging, 5 everything. Extra fields are passed as `log.info("...", extra={REQUEST_ID: id})`. A record below the
level is not formatted.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

VERBOSE = 15
TRACE = 5
TIME_ENCODINGS = ("epoch", "millis", "nano", "iso8601", "rfc3339", "rfc3339nano")

_LEVELS_BY_VERBOSITY = {3: VERBOSE, 4: logging.DEBUG, 5: TRACE}
_LEVELS_BY_NAME = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "panic": logging.CRITICAL,
}
_LEVEL_NAMES = {
    logging.CRITICAL: "panic",
    logging.ERROR: "error",
    logging.WARNING: "warn",
    logging.INFO: "info",
    VERBOSE: "info",
    logging.DEBUG: "debug",
    TRACE: "trace",
}
# What every record has; all other attributes of a record were given in `extra`.
_STANDARD_FIELDS = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))


def parse_log_level(verbosity: int = 2, level: str = "") -> int:
    """The level of the standard library for `--v` and `--zap-log-level`; the latter takes precedence if set."""
    name = level.lower()
    if name in _LEVELS_BY_NAME:
        return _LEVELS_BY_NAME[name]
    if name:
        if not name.isdecimal():
            raise ValueError(f"invalid log level {level!r}: expected {', '.join(_LEVELS_BY_NAME)} or a number")
        verbosity = int(name)
    return _LEVELS_BY_VERBOSITY.get(min(verbosity, 5), logging.INFO)


def configure_logging(
    *,
    verbosity: int = 2,
    level: str = "",
    encoder: str = "json",
    devel: bool = False,
    time_encoding: str = "rfc3339",
    stream: TextIO | None = None,
    logger: logging.Logger | None = None,
) -> logging.Handler:
    """Writes the records of `logger` (default: the root) and its children to `stream` (default: stderr).

    Replaces the handlers that it had. `devel` means console lines, and debugging unless `level` is given.
    """
    target = logging.getLogger() if logger is None else logger
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    console = encoder == "console" or devel
    handler.setFormatter(ConsoleFormatter(time_encoding) if console else JsonFormatter(time_encoding))
    for old in target.handlers[:]:
        target.removeHandler(old)
    target.addHandler(handler)
    target.setLevel(parse_log_level(max(verbosity, 4) if devel else verbosity, level))
    return handler


class JsonFormatter(logging.Formatter):
    """One object: `level`, `ts`, `logger`, `caller`, `msg`, extra fields, `error` and `stacktrace` of an exception."""

    def __init__(self, time_encoding: str = "rfc3339") -> None:
        super().__init__()
        self._time_encoding = time_encoding

    def extra_fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The extra fields of a record, and the fields of its exception."""
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = str(record.exc_info[1]) or type(record.exc_info[1]).__name__
            fields["stacktrace"] = self.formatException(record.exc_info)
        return fields

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "level": zap_level_name(record.levelno),
            "ts": format_timestamp(record.created, self._time_encoding),
            "logger": record.name,
            "caller": f"{record.module}.py:{record.lineno}",
            "msg": record.getMessage(),
            **self.extra_fields(record),
        }
        return encode_json_line(line)


class ConsoleFormatter(JsonFormatter):
    """Separated by tabs: time, level, logger, message, extra fields as JSON; the traceback on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        fields = self.extra_fields(record)
        traceback = fields.pop("stacktrace", "")
        parts = [
            str(format_timestamp(record.created, self._time_encoding)),
            zap_level_name(record.levelno).upper(),
            record.name,
            record.getMessage(),
        ]
        if fields:
            parts.append(encode_json_line(fields))
        return "\t".join(parts) + (f"\n{traceback}" if traceback else "")


def zap_level_name(number: int) -> str:
    """zap's name of a level; a level without a name takes that of the next lower one."""
    return _LEVEL_NAMES.get(number) or next((name for level, name in _LEVEL_NAMES.items() if level <= number), "trace")


def encode_json_line(line: dict[str, Any]) -> str:
    """JSON; values that JSON cannot represent are converted to strings."""
    try:
        return msgspec.json.encode(line, enc_hook=str).decode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, from a client's bytes that were not UTF-8
        return json.dumps(line, default=str)


def format_timestamp(seconds: float, encoding: str) -> str | float:
    """Wall-clock seconds in one of zap's time encodings (`--zap-time-encoding`)."""
    if encoding == "epoch":
        return seconds
    if encoding == "millis":
        return seconds * 1e3
    if encoding == "nano":
        return float(int(seconds * 1e9))
    moment = datetime.fromtimestamp(seconds, UTC)
    if encoding == "iso8601":
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if encoding == "rfc3339nano":
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
