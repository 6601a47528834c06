"""Word error rates of transcripts against reference texts.

Both texts go through Whisper's normaliser first, as for published error rates: English through the English one, which
expands abbreviations and unifies numbers and spelling; other languages through the basic one, which removes case and
punctuation, and which makes a word of every letter for languages written without spaces. Errors are summed over
recordings before they are divided, so that a recording counts by its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from epp_batch.errors import InputError
from epp_batch.output_folder import OutputFolder, TranscriptionResult
from epp_batch.report.model import WordErrors
from epp_batch.spec import Task

ENGLISH_NORMALIZER = "whisper_normalizer EnglishTextNormalizer"
BASIC_NORMALIZER = "whisper_normalizer BasicTextNormalizer"
LETTER_NORMALIZER = "whisper_normalizer BasicTextNormalizer(split_letters=True)"
_SPACELESS_LANGUAGES = ("zh", "ja", "th", "lo", "my", "yue")
"""Those of openai/whisper's `Tokenizer.split_to_word_tokens`, which does not split them at spaces either."""


def measure_word_errors(
    tasks: Iterable[Task], folder: OutputFolder, results: dict[str, TranscriptionResult]
) -> tuple[dict[str, WordErrors], str, list[str]]:
    """Word errors by stem of finished tasks that have a reference and a `.txt`.

    Also returns the names of the normalisers used, joined by commas, and a message for each text that could not be
    read. Raises InputError when there is a reference and the packages to compare it with are not installed.
    """
    word_errors: dict[str, WordErrors] = {}
    messages: list[str] = []
    normalizers: dict[str, Callable[[str], str]] = {}
    for task in tasks:
        result = results.get(task.stem)
        if task.recording.reference is None or result is None:
            continue
        try:
            reference = read_reference(Path(task.recording.reference))
            text = folder.path(task.stem, "txt").read_text(encoding="utf-8", errors="replace")
        except (OSError, UnicodeDecodeError) as error:
            messages.append(f"{task.stem}: no word error rate: {error}")
            continue
        name = _normalizer_name("en" if result.options.task == "translate" else result.language or "en")
        if name not in normalizers:
            normalizers[name] = _load_normalizer(name)
        normalize = normalizers[name]
        word_errors[task.stem] = count_word_errors(normalize(reference), normalize(text))
    return word_errors, ", ".join(sorted(normalizers)), messages


def read_reference(path: Path) -> str:
    """A reference as plain text; of fstalign's `.nlp` tables (Earnings22), the tokens in the first column."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix != ".nlp":
        return text
    return " ".join(line.split("|", 1)[0] for line in text.splitlines()[1:])


def count_word_errors(reference: str, text: str) -> WordErrors:
    """Errors of a text, both normalised; words are separated by white space."""
    import jiwer

    words = len(reference.split())
    if not words or not text.split():  # jiwer rejects empty texts
        return WordErrors(reference=words, deletions=words, insertions=0 if words else len(text.split()))
    output = jiwer.process_words(reference, text)
    return WordErrors(
        reference=words, substitutions=output.substitutions, deletions=output.deletions, insertions=output.insertions
    )


def _normalizer_name(language: str) -> str:
    if language == "en":
        return ENGLISH_NORMALIZER
    return LETTER_NORMALIZER if language in _SPACELESS_LANGUAGES else BASIC_NORMALIZER


def _load_normalizer(name: str) -> Callable[[str], str]:
    try:
        import jiwer  # noqa: F401
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise InputError(
            f"word error rates need the package {error.name}", remedy="pip install 'endpoint-picker[batch]'"
        ) from error
    if name == ENGLISH_NORMALIZER:
        english: Callable[[str], str] = EnglishTextNormalizer()
        return english
    basic: Callable[[str], str] = BasicTextNormalizer(split_letters=name == LETTER_NORMALIZER)
    return basic
