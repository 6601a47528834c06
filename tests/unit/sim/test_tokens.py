from __future__ import annotations

from epp.sim import tokens


def test_four_bytes_are_a_token() -> None:
    assert [tokens.count(tokens.encode(text)) for text in ("", "a", "abcd", "abcde", "äöü")] == [0, 1, 1, 2, 2]


def test_ids_survive() -> None:
    assert tokens.ids(tokens.from_ids([1, 151_935, 7])) == [1, 151_935, 7]


def test_a_conversation_starts_with_its_past_but_for_the_assistants_turn() -> None:
    system = {"role": "system", "content": "You are a poet."}
    ask = {"role": "user", "content": "Hi!"}
    first = tokens.chat([system, ask])
    answer = tokens.answer(tokens.seed(first), 0, 5)
    second = tokens.chat([system, ask, {"role": "assistant", "content": answer}, ask])
    assert second.startswith(first + answer.encode())


def test_tokens_of_an_answer_are_the_same_wherever_it_is_cut() -> None:
    whole = tokens.answer(42, 0, 100)
    assert len(whole) == 100 * tokens.WIDTH
    assert tokens.answer(42, 0, 33) + tokens.answer(42, 33, 100) == whole
    assert whole.isascii()
    assert tokens.answer(43, 0, 100) != whole


def test_parts_of_a_message() -> None:
    text = {"type": "text", "text": "look"}
    image = {"type": "image_url", "image_url": {"url": "data:1"}}
    other = {"type": "image_url", "image_url": {"url": "data:2"}}
    plain, one, two = (
        tokens.chat([{"role": "user", "content": parts}]) for parts in ([text], [text, image], [text, other])
    )
    assert plain == tokens.chat([{"role": "user", "content": "look"}])
    assert tokens.count(one) - tokens.count(plain) == tokens.IMAGE_TOKENS
    assert one != two


def test_tools_come_first() -> None:
    messages = [{"role": "user", "content": "Hi!"}]
    assert tokens.chat(messages, [{"name": "clock"}]).endswith(tokens.chat(messages))
