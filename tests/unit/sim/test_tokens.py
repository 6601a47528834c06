"""The substitute for a tokenizer."""

from __future__ import annotations

from epp.sim import tokens


def test_four_bytes_are_a_token() -> None:
    assert [tokens.count_tokens(tokens.encode_text(text)) for text in ("", "a", "abcd", "abcde", "äöü")] == [
        0,
        1,
        1,
        2,
        2,
    ]


def test_token_ids_round_trip() -> None:
    assert tokens.unpack_token_ids(tokens.pack_token_ids([1, 151_935, 7])) == [1, 151_935, 7]


def test_earlier_turns_are_a_prefix_of_the_conversation() -> None:
    system = {"role": "system", "content": "You are a poet."}
    ask = {"role": "user", "content": "Hi!"}
    first = tokens.encode_chat([system, ask])
    answer = tokens.answer_text(tokens.answer_seed(first), 0, 5)
    second = tokens.encode_chat([system, ask, {"role": "assistant", "content": answer}, ask])
    assert second.startswith(first + answer.encode())


def test_an_answer_is_the_same_in_any_parts() -> None:
    whole = tokens.answer_text(42, 0, 100)
    assert len(whole) == 100 * tokens.TOKEN_BYTES
    assert tokens.answer_text(42, 0, 33) + tokens.answer_text(42, 33, 100) == whole
    assert whole.isascii()
    assert tokens.answer_text(43, 0, 100) != whole


def test_text_and_image_parts() -> None:
    text = {"type": "text", "text": "look"}
    image = {"type": "image_url", "image_url": {"url": "data:1"}}
    other = {"type": "image_url", "image_url": {"url": "data:2"}}
    plain, one, two = (
        tokens.encode_chat([{"role": "user", "content": parts}]) for parts in ([text], [text, image], [text, other])
    )
    assert plain == tokens.encode_chat([{"role": "user", "content": "look"}])
    assert tokens.count_tokens(one) - tokens.count_tokens(plain) == tokens.IMAGE_TOKENS
    assert one != two


def test_tools_stand_before_the_messages() -> None:
    messages = [{"role": "user", "content": "Hi!"}]
    assert tokens.encode_chat(messages, [{"name": "clock"}]).endswith(tokens.encode_chat(messages))
