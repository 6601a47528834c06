"""The header cache: after a few blocks of one client only the values that vary are parsed, and it stays bounded."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from epp.extproc.codec.header_cache import MAX_BLOCKS_PER_LAYOUT, MAX_LAYOUTS, HeaderBlockCache
from epp.pb.core_pb2 import HeaderMap, HeaderValue


def encode_block(headers: Mapping[str, str]) -> bytes:
    fields = [HeaderValue(key=name, raw_value=value.encode()) for name, value in headers.items()]
    return HeaderMap(headers=fields).SerializeToString()


def request_headers(number: int, **more: str) -> dict[str, str]:
    return {
        ":path": "/v1/completions",
        "content-length": f"{number:04}",
        "x-request-id": f"{number:036}",
        "authorization": "Bearer " + f"{number:08}" * 10,
        **more,
    }


def test_a_known_layout_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = HeaderBlockCache()
    for number in (1, 2):
        assert cache.decode(encode_block(request_headers(number))) == request_headers(number)
    monkeypatch.setattr(HeaderBlockCache, "_parse_block", lambda *_: pytest.fail("parsed header by header"))
    assert cache.decode(encode_block(request_headers(3))) == request_headers(3)
    assert cache.decode(encode_block(request_headers(4))) == request_headers(4)


def test_decoded_headers_are_copies() -> None:
    cache = HeaderBlockCache()
    for number in (1, 2, 3):
        found = cache.decode(encode_block(request_headers(number)))
        assert found == request_headers(number)
        found.clear()


def test_layouts_of_several_clients_are_kept_apart() -> None:
    cache = HeaderBlockCache()
    for number in range(20):
        for agent in ("curl", "node"):
            for headers in (request_headers(number, agent=agent), request_headers(number, origin=agent[:3])):
                assert cache.decode(encode_block(headers)) == headers


def test_the_cache_is_bounded_and_holds_no_credentials() -> None:
    cache = HeaderBlockCache()
    for number in range(4 * MAX_LAYOUTS):
        cache.decode(encode_block(request_headers(number, name="v" * (number + 1))))
        cache.decode(encode_block(request_headers(number, **{f"name-{number:04}": "v"})))
    assert len(cache._layouts) <= MAX_LAYOUTS
    assert all(len(layout.decoded) <= MAX_BLOCKS_PER_LAYOUT for layout in cache._layouts.values())
    kept = b"".join(block for layout in cache._layouts.values() for block in layout.decoded)
    assert b":path" in kept
    assert b"0000000" not in kept
