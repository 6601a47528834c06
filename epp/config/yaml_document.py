"""A strict YAML reader: no duplicate keys, JSON's numbers, and the line of every value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from epp.errors import Problem

# Aliases let a short text expand without limit ("billion laughs"), or contain itself.
MAX_DEPTH = 64
MAX_NODES = 100_000


class YamlDocument(NamedTuple):
    """The document's value, and the 1-based line of every path in it."""

    value: Any
    lines: Mapping[str, int]

    def line_of(self, path: str) -> int | None:
        """The line of the path, or of the innermost enclosing value that has one."""
        while path not in self.lines:
            cut = max(path.rfind("."), path.rfind("["))
            if cut <= 0:
                return None
            path = path[:cut]
        return self.lines[path]


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader with JSON's numbers, .inf and .nan: `1e3` is a number; dates, `0755` and `10:30` are text.

    YAML 1.1 reads `0755` as octal and `10:30` as 630, both without an error.
    """


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float", ":int"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def read_yaml(text: str, problems: list[Problem]) -> YamlDocument | None:
    """The single document of the text; None, and a problem, if it is not valid YAML."""
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if node is None:
            problems.append(Problem("", "the configuration is empty"))
            return None
        builder = _ValueBuilder(loader, problems)
        return YamlDocument(builder.build(node, "", 0), builder.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        description = ": ".join(filter(None, (error.context, error.problem)))
        problems.append(Problem(position, f"not valid YAML: {description}"))
    except yaml.YAMLError as error:
        problems.append(Problem("", f"not valid YAML: {error}"))
    except RecursionError:
        problems.append(Problem("", "not valid YAML: nested too deep"))
    return None


class _ValueBuilder:
    """Builds the values of nodes, and collects the line of each path."""

    def __init__(self, loader: _StrictLoader, problems: list[Problem]) -> None:
        self.lines: dict[str, int] = {}
        self._loader = loader
        self._problems = problems
        self._node_count = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Any:
        self._node_count += 1
        if depth > MAX_DEPTH or self._node_count > MAX_NODES:
            raise yaml.YAMLError("nested too deep, or too large")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)
        except (ValueError, AttributeError) as error:  # an explicit tag such as !!int on another text
            raise yaml.MarkedYAMLError(problem=f"{node.value!r}: {error}", problem_mark=node.start_mark) from error

    def _build_mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        own = {id(key) for key, _ in node.value}  # the others come from a merge key (<<), which own keys override
        self._loader.flatten_mapping(node)
        merged = {key.value for key, _ in node.value if id(key) not in own}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key_node.start_mark)
            key = key_node.value
            inner = f"{path}.{key}" if path else key
            line = key_node.start_mark.line + 1
            if key in mapping and key not in merged:
                self._problems.append(Problem(inner, f"duplicate key, repeated in line {line}"))
            self.lines[inner] = line
            mapping[key] = self.build(value_node, inner, depth + 1)
        return mapping
