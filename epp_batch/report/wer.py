"""Word error rates against texts that people wrote.

Both sides go through Whisper's normaliser, as published error rates do: the English one spells out abbreviations and
unifies numbers and spelling; other languages get the basic one, which takes off case and punctuation, and where words
are not set apart by spaces every letter counts as a word. Errors are summed before they are divided, so that a long
recording counts for its length.
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


def measure_word_errors(
    tasks: Iterable[Task], folder: OutputFolder, results: dict[str, TranscriptionResult]
) -> tuple[dict[str, WordErrors], str, list[str]]:
    """Errors by stem of finished tasks that have a reference and a `.txt`; normalisers used; what could not be read.

    Raises InputError when a reference is there and the packages to compare it with are not installed.
    """
    found: dict[str, WordErrors] = {}
    used: set[str] = set()
    missing: list[str] = []
    normalise: dict[str, Callable[[str], str]] = {}
    for task in tasks:
        result = results.get(task.stem)
        if task.recording.reference is None or result is None:
            continue
        try:
            reference = read_reference(Path(task.recording.reference))
            text = folder.path(task.stem, "txt").read_text(encoding="utf-8", errors="replace")
        except (OSError, UnicodeDecodeError) as error:
            missing.append(f"{task.stem}: no word error rate: {error}")
            continue
        language = "en" if result.options.task == "translate" else result.language or "en"
        name = (
            ENGLISH_NORMALIZER
            if language == "en"
            else LETTER_NORMALIZER
            if language in _SPACELESS_LANGUAGES
            else BASIC_NORMALIZER
        )
        used.add(name)
        clean = normalise.get(name) or normalise.setdefault(name, _load_normalizer(name))
        found[task.stem] = count_word_errors(clean(reference), clean(text))
    return found, ", ".join(sorted(used)), missing


def read_reference(path: Path) -> str:
    """A reference as plain text; of fstalign's `.nlp` tables (Earnings22), the tokens of the first column."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix != ".nlp":
        return text
    return " ".join(line.split("|", 1)[0] for line in text.splitlines()[1:])


def count_word_errors(reference: str, text: str) -> WordErrors:
    """Both normalised; words are what white space separates."""
    import jiwer

    words = len(reference.split())
    if not words or not text.split():
        return WordErrors(reference=words, deletions=words, insertions=0 if words else len(text.split()))
    output = jiwer.process_words(reference, text)
    return WordErrors(
        reference=words, substitutions=output.substitutions, deletions=output.deletions, insertions=output.insertions
    )


def _load_normalizer(name: str) -> Callable[[str], str]:
    try:
        import jiwer  # noqa: F401
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise InputError(
            f"word error rates need {error.name}", remedy="pip install 'endpoint-picker[batch]'"
        ) from error
    if name == ENGLISH_NORMALIZER:
        english: Callable[[str], str] = EnglishTextNormalizer()
        return english
    basic: Callable[[str], str] = BasicTextNormalizer(split_letters=name == LETTER_NORMALIZER)
    return basic
