"""Endpoint picker for inference traffic: Envoy asks over ext_proc, the live state of model servers decides.

Flows in: ext_proc streams of a gateway, membership and metrics of model servers, an EndpointPickerConfig. Flows out:
a destination for each request, metrics, logs. `picker.EndpointPicker` builds everything and owns the life cycle; the
order of the packages below it is a contract in pyproject.toml, their purposes are in docs/architecture.md.
"""

__version__ = "0.1.0"
