"""Envoy's ext_proc messages: bytes to plain values and back.

In: serialized ProcessingRequests, decoded to `ProcessingRequest` structs. Out: serialized ProcessingResponses. With
`epp.services.codec` the only user of `epp.pb`: no other module of the picker sees protobuf.

`Codec` is what a server's streams share. It owns every cache (header blocks, replies to a destination, chunk
prefixes), because these hold values that clients sent; `decode` and `encode` are stateless functions. Does not know
the order of messages: that is the session's.
"""

from epp.extproc.codec.codec import Codec
from epp.extproc.codec.decode import BodyMode, MessageType, ProcessingRequest
from epp.extproc.codec.encode import NO_MUTATION, HeaderMutation

__all__ = ["NO_MUTATION", "BodyMode", "Codec", "HeaderMutation", "MessageType", "ProcessingRequest"]
