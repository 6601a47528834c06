"""llm-d's EndpointPickerConfig, field by field.

Every field has a default, so that an incomplete configuration can be read as far as it goes and all other problems are
found too; required fields are checked where they are used.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

API_VERSION: Final = "llm-d.ai/v1alpha1"
LEGACY_API_VERSION: Final = "inference.networking.x-k8s.io/v1alpha1"
CONFIG_KIND: Final = "EndpointPickerConfig"

Quantity = (
    Annotated[int, msgspec.Meta(ge=0)]
    | Annotated[float, msgspec.Meta(ge=0)]
    | Annotated[
        str,
        msgspec.Meta(
            pattern=r"^\+?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$",
            title="a quantity of at least 0, such as 5000, 1G or 512Mi",
        ),
    ]
)
"""A Kubernetes quantity (resource.Quantity) of at least 0."""

Duration = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(0|([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+)$", title="a duration such as 60s, 1m30s or 200ms"
    ),
]
"""A Go duration of at least 0."""


class _Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of the mappings of the configuration: camelCase keys, unknown ones are errors."""


class PluginSpec(_Section):
    """`plugins[]`: `name` defaults to `type`."""

    name: str = ""
    type: str = ""
    parameters: dict[str, Any] | None = None


class PluginRef(_Section):
    """A reference to a plugin by its name."""

    plugin_ref: str = ""


class ProfilePluginRef(_Section):
    """`schedulingProfiles[].plugins[]`: the weight is for scorers."""

    plugin_ref: str = ""
    weight: float | None = None


class ProfileSpec(_Section):
    """`schedulingProfiles[]`."""

    name: str = ""
    plugins: list[ProfilePluginRef] = []


class DataSourceSpec(_Section):
    """`dataLayer.sources[]`."""

    plugin_ref: str = ""
    extractors: list[PluginRef] = []


class DataLayerConfig(_Section):
    """`dataLayer`."""

    inject_defaults: bool = True
    sources: list[DataSourceSpec] = []
    discovery: PluginRef | None = None
    peer_discovery: PluginRef | None = None
    cross_replica_syncer_plugin_ref: str = ""
    cross_replica_sync_interval: Duration | None = None


class PriorityBandConfig(_Section):
    """`flowControl.defaultPriorityBand` and its negative twin."""

    max_bytes: Quantity | None = None
    max_requests: Quantity | None = None
    fairness_policy_ref: str = ""
    ordering_policy_ref: str = ""
    priority: int | None = None


class FlowControlConfig(_Section):
    """`flowControl`."""

    max_bytes: Quantity | None = None
    max_requests: Quantity | None = None
    default_request_ttl: Duration | None = msgspec.field(default=None, name="defaultRequestTTL")
    no_endpoint_request_ttl: Duration | None = msgspec.field(default=None, name="noEndpointRequestTTL")
    default_priority_band: PriorityBandConfig | None = None
    default_negative_priority_band: PriorityBandConfig | None = None
    priority_bands: list[PriorityBandConfig] = []
    usage_limit_policy_plugin_ref: str = ""
    saturation_detector: PluginRef | None = None
    enable_eviction: bool = False


class RequestHandlerConfig(_Section):
    """`requestHandler`."""

    parsers: list[PluginRef] = []


class EndpointPickerConfig(_Section):
    """The document. `saturationDetector` and `parser` at this level are llm-d's deprecated spellings."""

    api_version: str = ""
    kind: str = ""
    feature_gates: list[str] = []
    plugins: list[PluginSpec] = []
    scheduling_profiles: list[ProfileSpec] = []
    data_layer: DataLayerConfig | None = None
    flow_control: FlowControlConfig | None = None
    request_handler: RequestHandlerConfig | None = None
    saturation_detector: PluginRef | None = None
    parser: PluginRef | None = None
