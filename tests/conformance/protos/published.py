"""Prints as JSON how Envoy's published protos (PyPI `xds-protos`) define the names on the command line.

Runs in its own process: the published modules define the same names as ours, and protobuf has one pool of them.
"""

from __future__ import annotations

import importlib
import json
import sys

from described import describe
from google.protobuf import descriptor_pool

MODULES = (
    "envoy.service.ext_proc.v3.external_processor_pb2",
    "envoy.service.accesslog.v3.als_pb2",
    "envoy.data.accesslog.v3.accesslog_pb2",
)

for module in MODULES:
    importlib.import_module(module)
json.dump({name: describe(descriptor_pool.Default(), name) for name in sys.argv[1:]}, sys.stdout)
