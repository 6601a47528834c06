"""Endpoints from a file, llm-d's `file-discovery`.

    endpoints:
      - name: vllm-0
        namespace: default
        address: 10.0.0.7
        port: "8000"
        labels: {llm-d.ai/role: decode}

YAML or JSON, 1 MiB at most. Addresses are literal: IPv4, or IPv6 (which llm-d does not take).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from watchfiles import awatch

from epp.address import parse_ip_literal, parse_port
from epp.api import Discovery, Endpoint
from epp.config.convert import INVALID, convert_value
from epp.datalayer.endpoint_union import EndpointUnion
from epp.errors import ConfigError, Problem
from epp.tasks import Tasks

log = logging.getLogger("epp.files")

MAX_BYTES = 1024 * 1024
DEBOUNCE_MS = 100
POLL_INTERVAL_MS = 60_000


class FileDiscovery(Discovery, type="file-discovery"):
    """Take the endpoints from the file `path`; with `watchFile`, again whenever it changes.

    A file that cannot be used stops the start; later, the endpoints of the last good one stay.
    """

    path: Annotated[str, msgspec.Meta(min_length=1)]
    watch_file: bool = False


class EndpointFileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One endpoint as the file has it."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    address: str
    port: str | int
    namespace: str = "default"
    labels: dict[str, str] = {}

    def to_endpoint(self) -> Endpoint:
        """The endpoint; ValueError saying what is wrong with it."""
        return Endpoint(
            name=f"{self.namespace}/{self.name}",
            address=parse_ip_literal(self.address),
            port=parse_port(str(self.port)),
            labels=self.labels,
            namespace=self.namespace,
            pod=self.name,
        )


class EndpointFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    endpoints: list[EndpointFileEntry]


def read_endpoint_file(path: str) -> list[Endpoint]:
    """The endpoints in a file; ConfigError with everything that is wrong with it."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem("", f"cannot be read: {error.strerror}")], path) from error
    return parse_endpoint_file(content, path)


def parse_endpoint_file(content: bytes, path: str = "") -> list[Endpoint]:
    """The endpoints in a file's content."""
    if len(content) > MAX_BYTES:
        raise ConfigError([Problem("", f"is larger than {MAX_BYTES} bytes")], path)
    try:
        value: Any = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([Problem("", f"neither YAML nor JSON: {' '.join(str(error).split())}")], path) from error
    if not isinstance(value, dict):
        raise ConfigError([Problem("", "has no `endpoints`")], path)
    problems: list[Problem] = []
    document = convert_value(value, EndpointFile, "", problems)
    entries = document.endpoints if document is not INVALID else []
    found: dict[str, Endpoint] = {}
    for i, entry in enumerate(entries):
        try:
            endpoint = entry.to_endpoint() if entry is not None else None
        except ValueError as error:
            problems.append(Problem(f"endpoints[{i}]", str(error)))
            continue
        if endpoint is not None:
            if endpoint.name in found:
                problems.append(Problem(f"endpoints[{i}]", f"{endpoint.name} is listed twice"))
            found[endpoint.name] = endpoint
    if problems:
        raise ConfigError(problems, path)
    return list(found.values())


async def start_file_discovery(plugin: FileDiscovery, membership: EndpointUnion, tasks: Tasks) -> None:
    """Applies the file now, and with `watchFile` whenever it changes. ConfigError if it cannot be used now."""
    membership.set_endpoints(plugin.path, read_endpoint_file(plugin.path))
    if plugin.watch_file:
        tasks.supervise(f"watch {plugin.path}", lambda: _watch_file(Path(plugin.path), membership))


async def _watch_file(path: Path, membership: EndpointUnion) -> None:
    """Watches the folder, not the file: editors and Kubernetes replace files, by rename or by link.

    Looks once a minute too: a change before the watch began, or on a file system without events, is not missed.
    """
    seen = _read_content(path)
    _apply_content(seen, path, membership)
    async for _ in awatch(
        path.parent,
        recursive=False,
        debounce=DEBOUNCE_MS,
        step=10,
        rust_timeout=POLL_INTERVAL_MS,
        yield_on_timeout=True,
    ):
        content = _read_content(path)
        if content != seen:
            seen = content
            _apply_content(content, path, membership)


def _read_content(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        return None


def _apply_content(content: bytes | None, path: Path, membership: EndpointUnion) -> None:
    if content is None:
        log.error("%s cannot be read; its last endpoints stay", path)
        return
    try:
        endpoints = parse_endpoint_file(content, str(path))
    except ConfigError as error:
        log.error("%s; its last endpoints stay", error)
        return
    membership.set_endpoints(str(path), endpoints)
    log.info("%s: %d endpoints", path, len(endpoints))
