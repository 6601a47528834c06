"""The flags of `epp serve`: those of llm-d's picker, with its names, values and defaults, and flags of our own."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from epp.config.durations import parse_duration
from epp.errors import ConfigError, Problem
from epp.obs.logs import TIME_ENCODINGS, parse_log_level

_DECIMAL_SUFFIXES = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12}
_BINARY_SUFFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}


def parse_duration_flag(text: str) -> float:
    """Seconds of a Go duration such as `50ms` or `1m30s`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_byte_quantity(text: str) -> int | None:
    """Bytes of a Kubernetes resource quantity such as `10Mi`; a trailing B is ignored. None if empty."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T|)[Bb]?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"invalid number of bytes {text!r}: write e.g. 4194304, 10Mi, 10MiB")
    number, unit = Decimal(match[1]), match[2]
    return int(number * (2 ** _BINARY_SUFFIXES[unit] if unit in _BINARY_SUFFIXES else 10 ** _DECIMAL_SUFFIXES[unit]))


def parse_byte_limit(text: str) -> int:
    """As `parse_byte_quantity`, but the text must not be empty."""
    count = parse_byte_quantity(text)
    if count is None:
        raise argparse.ArgumentTypeError("a number of bytes is required: write e.g. 4194304, 10Mi, 10MiB")
    return count


def parse_log_level_flag(text: str) -> str:
    """A log level of `epp.obs.logs`, returned as it is; may be empty."""
    try:
        parse_log_level(level=text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def parse_bool(text: str) -> bool:
    """A boolean as Go's `strconv.ParseBool` accepts it."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise argparse.ArgumentTypeError(f"invalid boolean {text!r}: expected true or false")


def parse_listen_port(text: str) -> int:
    """A TCP port to listen on; 0: any free one."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"invalid port {text!r}: expected 0-65535")
    return int(text)


def parse_fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"invalid share {text!r}: expected a number from 0 to 1")
    return value


def parse_name_list(text: str) -> list[str]:
    """The items of a comma-separated list, without empty ones."""
    return [item.strip() for item in text.split(",") if item.strip()]


class Flag(NamedTuple):
    """One flag. `parse` converts its text, or raises ArgumentTypeError; `choices` are the only values, if given."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    choices: tuple[str, ...] | None = None


LLM_D_FLAGS = (
    Flag("grpc-port", parse_listen_port, 9002, "ext_proc listener"),
    Flag("grpc-health-port", parse_listen_port, 9003, "grpc.health.v1 listener, without TLS"),
    Flag("metrics-port", parse_listen_port, 9090, "/metrics and the debug pages"),
    Flag("pool-name", str, "", "InferencePool name; labels the pool metrics"),
    Flag("pool-namespace", str, "", "namespace of the pool (else $NAMESPACE, else default)"),
    Flag("pool-group", str, "inference.networking.k8s.io", "API group of the pool"),
    Flag("endpoint-selector", str, "", "pod label selector instead of a pool"),
    Flag("endpoint-target-ports", parse_name_list, [], "ports of selected pods"),
    Flag("disable-endpoint-subset-filter", parse_bool, False, "ignore the gateway's subset hint"),
    Flag("emit-endpoint-scores", parse_bool, False, "add every endpoint's score to the dynamic metadata"),
    Flag("allow-experimental-plugins", parse_bool, False, "permit experimental plugins"),
    Flag("config-file", str, "", "EndpointPickerConfig file"),
    Flag("config-text", str, "", "EndpointPickerConfig text, or the name of a preset (see `epp check --presets`)"),
    Flag(
        "refresh-metrics-interval", parse_duration_flag, 0.05, "time between two scrapes of an endpoint, at least 50ms"
    ),
    Flag(
        "refresh-prometheus-metrics-interval",
        parse_duration_flag,
        5.0,
        "accepted; pool gauges are computed when they are read",
    ),
    Flag("metrics-staleness-threshold", parse_duration_flag, 2.0, "scraped values older than this are unknown"),
    Flag("ha-enable-leader-election", parse_bool, False, "needs Kubernetes"),
    Flag("drain-timeout", parse_duration_flag, 30.0, "how long open streams are served after SIGTERM"),
    Flag(
        "grpc-max-recv-msg-size",
        parse_byte_quantity,
        None,
        "largest ext_proc message (default: as --max-request-body needs)",
    ),
    Flag(
        "grpc-max-send-msg-size",
        parse_byte_quantity,
        None,
        "accepted; messages carry at most 62,000 bytes of body",
    ),
    Flag("secure-serving", parse_bool, True, "TLS on the ext_proc port"),
    Flag("cert-path", str, "", "folder with tls.crt and tls.key; empty: self-signed"),
    Flag("enable-cert-reload", parse_bool, False, "load the certificate again when it changes"),
    Flag("tls-min-version", str, "", "VersionTLS12 or VersionTLS13"),
    Flag("tls-cipher-suites", parse_name_list, [], "Go names; TLS 1.2 only"),
    Flag("health-checking", parse_bool, False, "accepted; grpc.health.v1 is always served on the ext_proc port too"),
    Flag("metrics-endpoint-auth", parse_bool, True, "needs Kubernetes; without it /metrics listens on loopback only"),
    Flag("metrics-cert-dir", str, "", "TLS for the metrics port"),
    Flag("metrics-client-ca-file", str, "", "client certificates for the metrics port"),
    Flag("enable-pprof", parse_bool, True, "accepted; this picker has no Go profiles"),
    Flag("enable-grpc-stream-metrics", parse_bool, False, "the three llm_d_epp_extproc_* metrics"),
    Flag("tracing", parse_bool, True, "accepted; traces are not exported yet"),
    Flag("v", int, 2, "verbosity: 2 default, 3 verbose, 4 debug, 5 trace"),
    Flag("zap-devel", parse_bool, False, "console logs"),
    Flag("zap-encoder", str, "json", "json or console", ("json", "console")),
    Flag("zap-log-level", parse_log_level_flag, "", "debug, info, error, or a number; overrides --v"),
    Flag("zap-stacktrace-level", str, "", "accepted; errors are logged with tracebacks"),
    Flag("zap-time-encoding", str.lower, "rfc3339", "format of the time in logs", TIME_ENCODINGS),
)

OWN_FLAGS = (
    Flag("host", str, "0.0.0.0", "address of the ext_proc and health listeners"),
    Flag("grpc-fd", int, None, "file descriptor of an inherited listening socket, instead of --host and --grpc-port"),
    Flag(
        "metrics-host",
        str,
        "",
        "address of the metrics listener (default: --host; loopback with --metrics-endpoint-auth)",
    ),
    Flag("transport", str, "native", "HTTP/2 implementation", ("native", "grpcio")),
    Flag("completion", str, "extproc", "what reports the end of a request", ("extproc", "access-log", "scrape")),
    Flag(
        "observe-responses",
        parse_fraction,
        0.0,
        "share of requests whose response is observed as in mode extproc, in the other two modes",
    ),
    Flag("decision-timeout", parse_duration_flag, 2.0, "maximum duration of a routing decision"),
    Flag("max-request-body", parse_byte_limit, 64 << 20, "larger request bodies get 413"),
    Flag("max-request-headers", parse_byte_limit, 64 << 10, "larger request headers get 431"),
    Flag(
        "reservation-ttl",
        parse_duration_flag,
        600.0,
        "a request whose end is not reported counts as in flight for this long",
    ),
    Flag("seed", int, None, "seed of all random choices, for reproducible runs"),
)

REMOVED_FLAGS = {
    f"{name}-metric": "use engineConfigs of core-metrics-extractor"
    for name in (
        "total-queued-requests",
        "total-running-requests",
        "kv-cache-usage-percentage",
        "lora-info",
        "cache-info",
    )
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all flags of `epp serve`."""
    _add_flags(parser.add_argument_group("llm-d's flags"), LLM_D_FLAGS)
    own = parser.add_argument_group("flags of this picker")
    own.add_argument(
        "--endpoint", action="append", default=[], metavar="HOST:PORT", help="address of a model server (repeatable)"
    )
    own.add_argument(
        "--dns",
        action="append",
        default=[],
        metavar="NAME:PORT",
        help="a DNS name of model servers, resolved every 5 s (repeatable)",
    )
    _add_flags(own, OWN_FLAGS)
    removed = parser.add_argument_group("removed by llm-d")
    for name, advice in REMOVED_FLAGS.items():
        removed.add_argument(f"--{name}", default=None, help=argparse.SUPPRESS, metavar=advice)


def _add_flags(group: argparse._ArgumentGroup, flags: Sequence[Flag]) -> None:
    for flag in flags:
        spelled = [f"--{flag.name}", "-v"] if flag.name == "v" else [f"--{flag.name}"]
        extra: dict[str, Any] = {"nargs": "?", "const": True} if flag.parse is parse_bool else {}
        shown = "" if flag.default in (None, "", []) else f" (default {flag.default})"
        group.add_argument(
            *spelled, type=flag.parse, default=flag.default, choices=flag.choices, help=flag.help + shown, **extra
        )


def complete_flags(options: argparse.Namespace, environment: Mapping[str, str]) -> list[str]:
    """Sets the flags whose defaults depend on others; returns warnings. ConfigError lists every contradiction."""
    problems, warnings = [], []
    for name, advice in REMOVED_FLAGS.items():
        if getattr(options, name.replace("-", "_")) is not None:
            problems.append(Problem(f"--{name}", f"was removed in llm-d; {advice}"))
    if options.config_file and options.config_text:
        problems.append(Problem("--config-file, --config-text", "are mutually exclusive: give one of them"))
    if options.pool_name and options.endpoint_selector:
        problems.append(Problem("--pool-name, --endpoint-selector", "are mutually exclusive: give one of them"))
    if options.metrics_client_ca_file and not options.metrics_cert_dir:
        problems.append(Problem("--metrics-client-ca-file", "needs --metrics-cert-dir"))
    if options.grpc_fd is not None and options.transport != "native":
        problems.append(Problem("--grpc-fd", "needs --transport=native"))
    if options.enable_cert_reload and not options.cert_path:
        problems.append(Problem("--enable-cert-reload", "needs --cert-path"))
    if options.ha_enable_leader_election:
        problems.append(Problem("--ha-enable-leader-election", "needs Kubernetes, which is not supported yet"))
    if options.refresh_metrics_interval < 0.05:
        warnings.append("--refresh-metrics-interval is below 50ms; 50ms is used")
        options.refresh_metrics_interval = 0.05
    if options.v < 0:
        warnings.append("--v is negative; 2 is used")
        options.v = 2
    if problems:
        raise ConfigError(problems, "flags")
    options.pool_namespace = options.pool_namespace or environment.get("NAMESPACE", "") or "default"
    options.metrics_host = options.metrics_host or ("127.0.0.1" if options.metrics_endpoint_auth else options.host)
    return warnings
