"""Plain values to typed structs, collecting every problem instead of stopping at the first."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Any, Final

import msgspec

from epp.errors import Problem

INVALID: Final = object()
"""What `convert` returns when it could build nothing."""


def convert_value(value: Any, kind: Any, path: str, problems: list[Problem]) -> Any:
    """`value` as `kind`, as far as it goes; what does not fit is in `problems` with its full path.

    null for a field means the field's default, as in Go's JSON.
    """
    inner = _select_container_type(value, kind)
    if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return _convert_struct(value, inner, path, problems)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if isinstance(value, list) and origin is list:
        items = [convert_value(item, arguments[0], f"{path}[{i}]", problems) for i, item in enumerate(value)]
        return [None if item is INVALID else item for item in items]
    if isinstance(value, dict) and origin is dict:
        return {key: convert_value(item, arguments[1], join_path(path, key), problems) for key, item in value.items()}
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        title = _type_title(kind)
        text = f"expected {title}, got {value!r}" if title and not where else message[:1].lower() + message[1:]
        problems.append(Problem(path + where.rstrip("`"), text))
        return INVALID


def join_path(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _convert_struct(value: dict[str, Any], kind: type[msgspec.Struct], path: str, problems: list[Problem]) -> Any:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    before = len(problems)
    if kind.__struct_config__.forbid_unknown_fields:
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
    sound = len(problems) == before
    try:
        return kind(**arguments)
    except Exception as error:  # a plugin's __post_init__ may do anything
        if sound:
            problems.append(Problem(path, str(error) or error.__class__.__name__))
        return INVALID


def describe_unknown_field(key: str, fields: typing.Iterable[str]) -> str:
    """The complaint about an unknown field."""
    names = sorted(fields)
    close = difflib.get_close_matches(key, names, 1)
    if close:
        return f"unknown field; did you mean `{close[0]}`?"
    return f"unknown field; known: {', '.join(names)}" if names else "unknown field; there are none here"


def _type_title(kind: Any) -> str:
    """What the type calls itself in a `Meta(title=…)`, for people."""
    arguments = typing.get_args(kind)
    found = [argument.title for argument in arguments if isinstance(argument, msgspec.Meta) and argument.title]
    return found[0] if found else next(filter(None, map(_type_title, arguments)), "")


def _select_container_type(value: Any, kind: Any) -> Any:
    """The container type that `value` is meant to be, seen through Annotated and unions."""
    if typing.get_origin(kind) is typing.Annotated:
        return _select_container_type(value, typing.get_args(kind)[0])
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        options = [_select_container_type(value, option) for option in typing.get_args(kind)]
        for option in options:
            base = typing.get_origin(option) or option
            if isinstance(base, type) and (
                (isinstance(value, dict) and issubclass(base, dict | msgspec.Struct))
                or (isinstance(value, list) and issubclass(base, list))
            ):
                return option
    return kind
