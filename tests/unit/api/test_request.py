"""Requests as plugins see them."""

from __future__ import annotations

from epp.api import PROMPT, Request, TokenizedPrompt


def test_the_target_model_is_the_requested_one_unless_rewritten() -> None:
    assert Request(model="small").target_model == "small"
    assert Request(model="small", target_model="large").target_model == "large"


def test_attributes_are_none_until_produced_and_not_shared() -> None:
    one, two = Request(), Request()
    prompt = TokenizedPrompt(b"abcd", 1)
    one.attributes[PROMPT] = prompt
    assert one[PROMPT] is prompt
    assert two[PROMPT] is None


def test_the_payload_is_released_and_what_names_the_request_stays() -> None:
    request = Request(
        id="r", path="/p", model="m", headers={"a": "b"}, body=b"{}", text=b"t", token_ids=b"i", attributes={PROMPT: 1}
    )
    request.release_payload()
    assert (request.body, request.text, request.token_ids, request.attributes) == (b"", b"", b"", {})
    assert (request.id, request.path, request.model, request.headers) == ("r", "/p", "m", {"a": "b"})


def test_the_body_is_not_printed() -> None:
    assert (
        repr(Request(id="r", path="/p", model="m", body=b"secret")) == "Request(id='r', path='/p', model='m', 6 bytes)"
    )
