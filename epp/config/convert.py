"""Conversion of plain values to typed structs that reports all problems instead of stopping at the first."""

from __future__ import annotations

import difflib
import re
import types
import typing
from typing import Any, Final

import msgspec

from epp.errors import Problem

INVALID: Final = object()
"""Result of `convert_value` if no value could be built."""

YAML_TYPES: Final = {
    "float": "a number",
    "int": "an integer",
    "str": "text",
    "bool": "a boolean",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
"""What users call the types that msgspec names in its messages."""


def convert_value(value: Any, target: Any, path: str, problems: list[Problem]) -> Any:
    """`value` as the type `target`, without the parts that do not fit; each of those is a problem with its path.

    null for a field means the field's default, as in Go's JSON.
    """
    inner = _select_container_type(value, target)
    if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return _convert_struct(value, inner, path, problems)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if isinstance(value, list) and origin is list:
        items = [convert_value(item, arguments[0], f"{path}[{i}]", problems) for i, item in enumerate(value)]
        return [None if item is INVALID else item for item in items]
    if isinstance(value, dict) and origin is dict:
        return {key: convert_value(item, arguments[1], join_path(path, key), problems) for key, item in value.items()}
    try:
        return msgspec.convert(value, target)
    except msgspec.ValidationError as error:
        message, _, inner_path = str(error).partition(" - at `$")
        title = _type_title(target)
        text = f"expected {title}, got {value!r}" if title and not inner_path else _name_yaml_types(message)
        problems.append(Problem(path + inner_path.rstrip("`"), text))
        return INVALID


def _name_yaml_types(message: str) -> str:
    """msgspec's message with the words of YAML: "expected a number, got text" for "Expected `float`, got `str`"."""

    def name_types(match: re.Match[str]) -> str:
        words = [YAML_TYPES.get(name) for name in match[1].split(" | ")]
        return " or ".join(filter(None, words)) if all(words) else match[0]

    return re.sub(r"`([a-z |]+)`", name_types, message[:1].lower() + message[1:])


def join_path(path: str, key: str) -> str:
    """The path of a key in the mapping at `path`; "" is the path of the document."""
    return f"{path}.{key}" if path else key


def _convert_struct(value: dict[str, Any], struct: type[msgspec.Struct], path: str, problems: list[Problem]) -> Any:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    problems_before = len(problems)
    if struct.__struct_config__.forbid_unknown_fields:
        problems += [
            Problem(join_path(path, key), describe_unknown_field(key, fields)) for key in value if key not in fields
        ]
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if value.get(name) is not None:
            converted = convert_value(value[name], field.type, join_path(path, name), problems)
            if converted is not INVALID:
                arguments[field.name] = converted
        elif field.required:
            problems.append(Problem(join_path(path, name), "is required"))
    fields_are_valid = len(problems) == problems_before
    try:
        return struct(**arguments)
    except Exception as error:  # a plugin's __post_init__ may raise anything
        if fields_are_valid:  # otherwise it may be a consequence
            # A ValueError is a message to the user; the text of others, such as KeyError, needs the class.
            is_message = isinstance(error, ValueError) and str(error)
            problems.append(Problem(path, str(error) if is_message else f"{error.__class__.__name__}: {error}"))
        return INVALID


def describe_unknown_field(key: str, fields: typing.Iterable[str]) -> str:
    """The message for a key that is not a field: the most similar field, or all of them."""
    names = sorted(fields)
    close = difflib.get_close_matches(key, names, 1)
    if close:
        return f"unknown field; did you mean `{close[0]}`?"
    return f"unknown field; known fields: {', '.join(names)}" if names else "unknown field; no fields are known here"


def _type_title(target: Any) -> str:
    """The title in the first `Meta(title=…)` of the type or of its parts."""
    arguments = typing.get_args(target)
    titles = [argument.title for argument in arguments if isinstance(argument, msgspec.Meta) and argument.title]
    return titles[0] if titles else next(filter(None, map(_type_title, arguments)), "")


def _select_container_type(value: Any, target: Any) -> Any:
    """The member of a union that fits a mapping or list; Annotated is removed. Other types as they are."""
    if typing.get_origin(target) is typing.Annotated:
        return _select_container_type(value, typing.get_args(target)[0])
    if typing.get_origin(target) in {typing.Union, types.UnionType}:
        options = [_select_container_type(value, option) for option in typing.get_args(target)]
        for option in options:
            base = typing.get_origin(option) or option
            if isinstance(base, type) and (
                (isinstance(value, dict) and issubclass(base, dict | msgspec.Struct))
                or (isinstance(value, list) and issubclass(base, list))
            ):
                return option
    return target
