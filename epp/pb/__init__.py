"""Protobuf messages of Envoy and grpc.health.v1, generated from protos/ by protos/build.py.

Only the two codecs (`epp.extproc.codec`, `epp.services.codec`) and `epp.testing` import them.
"""
