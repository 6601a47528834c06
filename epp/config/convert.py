"""Plain values to typed structs, collecting every problem instead of stopping at the first."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Any, Final

import msgspec

from epp.errors import Problem

MISSING: Final = object()
"""What `convert` returns when it could build nothing."""


def convert(value: Any, kind: Any, path: str, problems: list[Problem]) -> Any:
    """`value` as `kind`, as far as it goes; what does not fit is in `problems` with its full path.

    null for a field means the field's default, as in Go's JSON.
    """
    inner = _alternative(value, kind)
    if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return _struct(value, inner, path, problems)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if isinstance(value, list) and origin is list:
        items = [convert(item, arguments[0], f"{path}[{i}]", problems) for i, item in enumerate(value)]
        return [None if item is MISSING else item for item in items]
    if isinstance(value, dict) and origin is dict:
        return {key: convert(item, arguments[1], join(path, key), problems) for key, item in value.items()}
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        title = _title(kind)
        text = f"expected {title}, got {value!r}" if title and not where else message[:1].lower() + message[1:]
        problems.append(Problem(path + where.rstrip("`"), text))
        return MISSING


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _struct(value: dict[str, Any], kind: type[msgspec.Struct], path: str, problems: list[Problem]) -> Any:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    before = len(problems)
    if kind.__struct_config__.forbid_unknown_fields:
        problems += [Problem(join(path, key), unknown(key, fields)) for key in value if key not in fields]
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if value.get(name) is not None:
            converted = convert(value[name], field.type, join(path, name), problems)
            if converted is not MISSING:
                arguments[field.name] = converted
        elif field.required:
            problems.append(Problem(join(path, name), "is required"))
    sound = len(problems) == before
    try:
        return kind(**arguments)
    except Exception as error:  # a plugin's __post_init__ may do anything
        if sound:
            problems.append(Problem(path, str(error) or error.__class__.__name__))
        return MISSING


def unknown(key: str, fields: typing.Iterable[str]) -> str:
    """The complaint about an unknown field."""
    names = sorted(fields)
    close = difflib.get_close_matches(key, names, 1)
    if close:
        return f"unknown field; did you mean `{close[0]}`?"
    return f"unknown field; known: {', '.join(names)}" if names else "unknown field; there are none here"


def _title(kind: Any) -> str:
    """What the type calls itself in a `Meta(title=…)`, for people."""
    arguments = typing.get_args(kind)
    found = [argument.title for argument in arguments if isinstance(argument, msgspec.Meta) and argument.title]
    return found[0] if found else next(filter(None, map(_title, arguments)), "")


def _alternative(value: Any, kind: Any) -> Any:
    """The container type that `value` is meant to be, seen through Annotated and unions."""
    if typing.get_origin(kind) is typing.Annotated:
        return _alternative(value, typing.get_args(kind)[0])
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        options = [_alternative(value, option) for option in typing.get_args(kind)]
        for option in options:
            base = typing.get_origin(option) or option
            if isinstance(base, type) and (
                (isinstance(value, dict) and issubclass(base, dict | msgspec.Struct))
                or (isinstance(value, list) and issubclass(base, list))
            ):
                return option
    return kind
