"""llm-d's argument lists parse unchanged; contradictions are named."""

import argparse

import pytest

from epp.cli.flags import (
    add_arguments,
    complete_flags,
    parse_bool,
    parse_byte_limit,
    parse_byte_quantity,
    parse_duration_flag,
    parse_log_level_flag,
)
from epp.errors import ConfigError


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    return parser.parse_args(list(words))


def test_the_arguments_of_llm_ds_helm_chart_are_accepted() -> None:
    options = parse(
        "--pool-name", "pool", "--pool-namespace", "ns", "--pool-group", "inference.networking.k8s.io",
        "--zap-encoder", "json", "--config-file", "/config/default-plugins.yaml", "--grpc-health-port", "9003",
        "--v=4", "--tracing=false", "--metrics-endpoint-auth=false", "--secure-serving",
        "--refresh-metrics-interval=100ms",
    )  # fmt: skip
    assert complete_flags(options, {}) == []
    assert (options.pool_name, options.v, options.tracing, options.secure_serving) == ("pool", 4, False, True)
    assert options.refresh_metrics_interval == 0.1
    assert options.metrics_host == "0.0.0.0"


def test_the_pool_namespace_defaults_to_the_environment() -> None:
    options = parse("--pool-name=p")
    complete_flags(options, {"NAMESPACE": "inference"})
    assert options.pool_namespace == "inference"


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("1m30s", 90.0), ("0", 0.0), ("1.5h", 5400.0), ("250us", 0.00025)]
)
def test_durations_are_written_as_in_go(text: str, seconds: float) -> None:
    assert parse_duration_flag(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1s2", "1 s", "-1s"])
def test_malformed_durations_are_rejected(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="50ms"):
        parse_duration_flag(text)


@pytest.mark.parametrize(
    ("text", "count"), [("10Mi", 10 << 20), ("10MiB", 10 << 20), ("4194304", 4194304), ("1k", 1000), ("", None)]
)
def test_byte_quantities_are_written_as_in_kubernetes(text: str, count: int | None) -> None:
    assert parse_byte_quantity(text) == count


def test_a_byte_limit_must_not_be_empty() -> None:
    assert parse_byte_limit("1Ki") == 1024
    with pytest.raises(argparse.ArgumentTypeError, match="10Mi"):
        parse_byte_limit("")


def test_log_levels_and_time_encodings_are_those_of_zap() -> None:
    assert (parse_log_level_flag("debug"), parse_log_level_flag("3"), parse_log_level_flag("")) == ("debug", "3", "")
    with pytest.raises(argparse.ArgumentTypeError, match="'loud'"):
        parse_log_level_flag("loud")
    assert parse("--zap-time-encoding=RFC3339Nano").zap_time_encoding == "rfc3339nano"
    with pytest.raises(SystemExit):
        parse("--zap-time-encoding=sundial")


def test_a_negative_byte_quantity_is_rejected() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_byte_quantity("-1")


def test_booleans_are_written_as_in_go() -> None:
    assert all(parse_bool(text) is True for text in ("t", "TRUE", "1"))
    assert all(parse_bool(text) is False for text in ("f", "False", "0"))
    with pytest.raises(argparse.ArgumentTypeError):
        parse_bool("yes")


def test_every_contradiction_is_reported_at_once() -> None:
    options = parse(
        "--config-file=a", "--config-text=b", "--pool-name=p", "--endpoint-selector=app=x",
        "--kv-cache-usage-percentage-metric=m", "--enable-cert-reload",
        "--ha-enable-leader-election=true", "--metrics-client-ca-file=ca",
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        complete_flags(options, {})
    assert len(caught.value.problems) == 6
    assert "--kv-cache-usage-percentage-metric: was removed in llm-d; use engineConfigs" in str(caught.value)


def test_a_too_short_refresh_interval_is_raised_with_a_warning() -> None:
    options = parse("--refresh-metrics-interval=1ms")
    assert "50ms is used" in complete_flags(options, {})[0]
    assert options.refresh_metrics_interval == 0.05
