"""Endpoint picker for inference traffic: Envoy asks over ext_proc, live model-server state decides."""

__version__ = "0.1.0"
