"""Replies, parsed by protobuf."""

from __future__ import annotations

from epp.extproc.codec import NO_MUTATION, Codec, encode
from epp.headers import DESTINATION_ENDPOINT, DESTINATION_ENDPOINT_SCORES, LB_NAMESPACE
from epp.pb import ext_proc_pb2
from tests.unit.extproc.codec.conftest import POD, parse_response


def test_route_in_body_replaces_only_a_changed_body():
    same = parse_response(encode.route_in_body(POD, NO_MUTATION, None, None)).request_body.response
    assert not same.HasField("body_mutation")
    emptied = parse_response(encode.route_in_body(POD, NO_MUTATION, None, b"")).request_body.response
    assert emptied.body_mutation.WhichOneof("mutation") == "body"


def test_immediate_response():
    reply = parse_response(
        encode.immediate_response(429, b"text", {"x-llm-d-request-dropped-reason": "full"}, "epp_Code")
    )
    answer = reply.immediate_response
    assert (answer.status.code, answer.body, answer.details) == (429, b"text", "epp_Code")
    assert [item.header.key for item in answer.headers.set_headers] == ["x-llm-d-request-dropped-reason"]


def test_route_in_trailers_is_metadata_only():
    reply = parse_response(encode.route_in_trailers(POD, {POD: 0.5}))
    assert reply.WhichOneof("response") == "request_trailers"
    assert not reply.request_trailers.HasField("header_mutation")
    assert reply.dynamic_metadata[LB_NAMESPACE][DESTINATION_ENDPOINT] == POD
    assert dict(reply.dynamic_metadata[LB_NAMESPACE][DESTINATION_ENDPOINT_SCORES]) == {POD: 0.5}


def test_body_messages_of_mode_grpc_pass_with_all_their_flags():
    body = ext_proc_pb2.HttpBody(body=b"x", end_of_stream_without_message=True, grpc_message_compressed=True)
    for phase, unchanged in (
        ("request_body", encode.request_body_unchanged),
        ("response_body", encode.response_body_unchanged),
    ):
        message = ext_proc_pb2.ProcessingRequest(**{phase: body}).SerializeToString()
        reply = getattr(parse_response(unchanged(Codec().decode(message))), phase)
        passed = reply.response.body_mutation.streamed_response
        assert (passed.body, passed.end_of_stream) == (b"x", False)
        assert passed.end_of_stream_without_message
        assert passed.grpc_message_compressed
