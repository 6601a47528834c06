"""What a gateway's settings make of Envoy's bootstrap."""

from __future__ import annotations

from epp.gateway.gateway import Gateway
from epp.gateway.programs import GatewaySettings


def shape(**settings):
    planned = Gateway(GatewaySettings(port=0, metrics_port=0, **settings)).plan_bootstrap()
    return planned["static_resources"]["clusters"][0]["type"]


def test_envoy_knows_endpoints_unless_the_picker_discovers_them():
    text = "dataLayer: {discovery: {pluginRef: file-discovery}}"
    assert shape(endpoints=("10.0.0.1:1",)) == "STATIC"
    assert shape(sim_servers=2) == "STATIC"
    assert shape(dns=("name:1",)) == "ORIGINAL_DST"
    assert shape(config_text=text) == "ORIGINAL_DST"
    assert shape(endpoints=("10.0.0.1:1",), config_text="plugins: []") == "STATIC"
    assert shape(config_text=text, shape="override_host") == "STATIC"
