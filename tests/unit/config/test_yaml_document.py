"""The strict YAML reader."""

from __future__ import annotations

import math

import pytest

from epp.config.yaml_document import YamlDocument, read_yaml
from epp.errors import Problem


def read_valid(text: str) -> YamlDocument:
    problems: list[Problem] = []
    document = read_yaml(text, problems)
    assert document is not None
    assert problems == []
    return document


def read_problems(text: str) -> list[str]:
    problems: list[Problem] = []
    read_yaml(text, problems)
    return [str(problem) for problem in problems]


def test_numbers_are_those_of_json_and_dates_stay_text() -> None:
    value = read_valid("{a: 1e3, b: 2026-01-01, c: 1.5E-1, d: -4, e: 0755, f: 10:30, g: on, h: ~, i: .5, j: 12.}").value
    assert value == {
        **{"a": 1000.0, "b": "2026-01-01", "c": 0.15, "d": -4, "e": "0755", "f": "10:30", "g": True, "h": None},
        **{"i": 0.5, "j": 12.0},
    }
    assert math.isnan(read_valid("{a: .nan}").value["a"])


def test_json_is_yaml() -> None:
    assert read_valid('{"a": [1, true, null, "x", 1.0e-7]}').value == {"a": [1, True, None, "x", 1e-7]}


def test_every_path_has_a_line() -> None:
    document = read_valid("a:\n  b:\n  - c: 1\n  - d: 2\n")
    assert document.line_of("a.b[1].d") == 4
    assert document.line_of("a.b[1].missing[3].x") == 4
    assert document.line_of("a.b[0]") == 3
    assert document.line_of("elsewhere") is None


def test_anchors_and_merges() -> None:
    text = "base: &base {x: 1, y: 2}\nother:\n  <<: *base\n  y: 3\n"
    assert read_valid(text).value["other"] == {"x": 1, "y": 3}


def test_a_duplicate_key_is_a_problem() -> None:
    assert read_problems("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n") == ["b.c: duplicate key, repeated in line 5"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the configuration is empty"),
        ("# nothing\n", "the configuration is empty"),
        ("a: [1, 2\nb: 3\n", "line 2, column 2: not valid YAML: while parsing a flow sequence: expected ',' or ']'"),
        (
            "a: 1\n\tb: 2\n",
            "line 2, column 1: not valid YAML: while scanning for the next token: found character '\\t'",
        ),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: not valid YAML: expected a single document in the stream"),
        ("a: *nowhere\n", "line 1, column 4: not valid YAML: found undefined alias 'nowhere'"),
        ("a: &a [*a]\n", "not valid YAML"),
        ("a: !!int many\n", "line 1, column 4: not valid YAML: 'many': invalid literal for int()"),
        ("a: !!python/object/apply:os.system [ls]\n", ""),
        ("? [a, b]\n: c\n", "line 1, column 3: not valid YAML: a key must be text"),
        ("a: \x00\n", "not valid YAML: unacceptable character #x0000"),
        ("[" * 5000, "not valid YAML: nested too deep"),
        ("a: " + "[" * 70 + "]" * 70, "not valid YAML: nested too deep"),
    ],
)
def test_invalid_yaml_is_a_problem_with_its_position(text: str, problem: str) -> None:
    if problem:
        assert read_problems(text)[0].startswith(problem)
    else:
        assert read_valid(text).value == {"a": ["ls"]}  # the tag of a list is not looked at; nothing is run


def test_many_aliases_of_aliases_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert read_problems("\n".join(lines)) == ["not valid YAML: nested too deep, or too large"]
