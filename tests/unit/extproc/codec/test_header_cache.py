"""Header blocks: after a few of a client's, only what varies is read."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from epp.extproc.codec import header_cache
from epp.extproc.codec.header_cache import MAX_BLOCKS_PER_LAYOUT, MAX_LAYOUTS, HeaderBlockCache
from epp.pb.core_pb2 import HeaderMap, HeaderValue


def block(headers: Mapping[str, str]) -> bytes:
    fields = [HeaderValue(key=name, raw_value=value.encode()) for name, value in headers.items()]
    return HeaderMap(headers=fields).SerializeToString()


def asked(number: int, **more: str) -> dict[str, str]:
    return {
        ":path": "/v1/completions",
        "content-length": f"{number:04}",
        "x-request-id": f"{number:036}",
        "authorization": "Bearer " + f"{number:08}" * 10,
        **more,
    }


def test_what_varies_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = HeaderBlockCache()
    for number in (1, 2):
        assert learnt.decode(block(asked(number))) == asked(number)
    monkeypatch.setattr(header_cache, "_parse_block", lambda *_: pytest.fail("read header by header again"))
    assert learnt.decode(block(asked(3))) == asked(3)
    assert learnt.decode(block(asked(4))) == asked(4)


def test_found_headers_are_the_callers_own() -> None:
    learnt = HeaderBlockCache()
    for number in (1, 2, 3):
        found = learnt.decode(block(asked(number)))
        assert found == asked(number)
        found.clear()


def test_other_clients_are_others() -> None:
    learnt = HeaderBlockCache()
    for number in range(20):
        for agent in ("curl", "node"):
            assert learnt.decode(block(asked(number, agent=agent))) == asked(number, agent=agent)
            assert learnt.decode(block(asked(number, origin=agent[:3]))) == asked(number, origin=agent[:3])


def test_what_is_kept_is_bounded_and_holds_no_credentials() -> None:
    learnt = HeaderBlockCache()
    for number in range(4 * MAX_LAYOUTS):
        learnt.decode(block(asked(number, name="v" * (number + 1))))
        learnt.decode(block(asked(number, **{f"name-{number:04}": "v"})))
    assert len(learnt._layouts) <= MAX_LAYOUTS
    assert all(len(layout.decoded) <= MAX_BLOCKS_PER_LAYOUT for layout in learnt._layouts.values())
    kept = b"".join(known for layout in learnt._layouts.values() for known in layout.decoded)
    assert b":path" in kept
    assert b"0000000" not in kept
