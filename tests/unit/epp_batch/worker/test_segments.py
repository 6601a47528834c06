"""Split of segments into subtitle lines."""

from __future__ import annotations

from epp_batch.worker.segments import MAX_LINE_LENGTH, Word, split_into_lines


def spoken(text, pauses=()):
    """One word per second; `pauses` are (index of a word, seconds of silence before it)."""
    words, now = [], 0.0
    for index, word in enumerate(text.split()):
        now += dict(pauses).get(index, 0.0)
        words.append(Word(now, now + 0.9, f" {word}", 1.0))
        now += 1.0
    return words


def texts(words):
    return ["".join(word.word for word in line).strip() for line in split_into_lines(words)]


def test_sentence_ends_a_line():
    text = "He was not an ill disposed young man. Unless to be rather cold hearted."
    assert texts(spoken(text)) == ["He was not an ill disposed young man.", "Unless to be rather cold hearted."]


def test_abbreviation_does_not_end_a_line():
    assert texts(spoken("And Mr. John Dashwood had leisure.")) == ["And Mr. John Dashwood had leisure."]


def test_closing_quote_belongs_to_the_sentence():
    assert texts(spoken('He said, "this is the very end." Then he left.')) == [
        'He said, "this is the very end."',
        "Then he left.",
    ]


def test_pause_ends_a_line():
    assert texts(spoken("yes and then no", [(1, 0.9)])) == ["yes", "and then no"]


def test_long_sentence_ends_at_a_comma_or_any_word():
    clause = "one word after the other until there are more characters than two subtitle lines have, "
    assert texts(spoken(clause + "and so on")) == [clause.strip(), "and so on"]
    assert all(len(line) <= MAX_LINE_LENGTH for line in texts(spoken("word " * 100)))


def test_every_word_is_in_one_line():
    words = spoken("One two. Three four five six seven. " * 20, [(7, 2.0), (30, 1.0)])
    assert [word for line in split_into_lines(words) for word in line] == words
    assert list(split_into_lines([])) == []
