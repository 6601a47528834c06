"""Programs of a gateway, and where its endpoints come from."""

from __future__ import annotations

from epp.gateway.programs import LOOPBACK, configures_discovery


def test_a_preset_or_broken_configuration_discovers_nothing(tmp_path):
    broken = tmp_path / "config.yaml"
    broken.write_text("a: [")
    assert not configures_discovery("", "default")
    assert not configures_discovery(str(broken), "")
    assert not configures_discovery(str(tmp_path / "missing"), "")
    assert LOOPBACK == "127.0.0.1"
