"""Word error rates: what counts as an error, and normalisers by language."""

from __future__ import annotations

import pytest

from epp_batch.output_folder import OutputFolder
from epp_batch.report import WordErrors, wer
from tests.unit.epp_batch.report.builders import build_result, build_task


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(tmp_path)


def measure(folder, reference, text, *, suffix="txt", **fields):
    path = folder.root / f"reference.{suffix}"
    path.write_text(reference, encoding="utf-8")
    task = build_task("call", reference=str(path))
    folder.path("call", "txt").write_text(text, encoding="utf-8")
    return wer.measure_word_errors([task], folder, {"call": build_result(task, **fields)})


def test_normalisation_ignores_spelling_case_numbers_and_punctuation(folder):
    words, used, messages = measure(folder, "Mr. Smith paid twenty-one dollars!", "mister smith paid $21")
    assert words == {"call": WordErrors(reference=4)}
    assert (used, messages) == (wer.ENGLISH_NORMALIZER, [])


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("a cat sat here", WordErrors(reference=4, substitutions=1)),
        ("a dog sat", WordErrors(reference=4, deletions=1)),
        ("a dog sat right here", WordErrors(reference=4, insertions=1)),
        ("", WordErrors(reference=4, deletions=4)),
    ],
)
def test_substitutions_deletions_and_insertions_are_counted(text, errors):
    assert wer.count_word_errors("a dog sat here", text) == errors


def test_a_reference_without_words_has_no_rate():
    words = wer.count_word_errors("", "three words more")
    assert words == WordErrors(reference=0, insertions=3)
    assert words.rate is None


@pytest.mark.parametrize(
    ("language", "reference", "text", "used", "words"),
    [
        ("de", "Schöne Grüße, Anna.", "schöne grüße anna", wer.BASIC_NORMALIZER, 3),
        ("ja", "こんにちは", "こんにちわ", wer.LETTER_NORMALIZER, 5),
    ],
)
def test_normalisers_of_other_languages(folder, language, reference, text, used, words):
    word_errors, name, _ = measure(folder, reference, text, language=language)
    assert name == used
    assert word_errors["call"].reference == words
    assert word_errors["call"].substitutions == (language == "ja")


def test_nlp_references_are_read_by_their_tokens(folder):
    table = "token|speaker|ts|endTs|punctuation|case|tags\nGood|1|0|1||UC|[]\nmorning|1|1|2|.|LC|[]\n"
    words, _, _ = measure(folder, table, "Good morning.", suffix="nlp")
    assert words["call"] == WordErrors(reference=2)


def test_a_missing_reference_is_reported_and_others_are_measured(folder):
    lost, good = (
        build_task("lost", reference=str(folder.root / "no.txt")),
        build_task("call", reference=str(folder.root / "r.txt")),
    )
    (folder.root / "r.txt").write_text("yes")
    folder.path("call", "txt").write_text("yes")
    words, _, messages = wer.measure_word_errors(
        [lost, good], folder, {"lost": build_result(lost), "call": build_result(good)}
    )
    assert list(words) == ["call"]
    assert len(messages) == 1
    assert messages[0].startswith("lost: no word error rate: ")


def test_unfinished_tasks_are_not_measured(folder):
    assert wer.measure_word_errors([build_task("call", reference="r.txt")], folder, {}) == ({}, "", [])
