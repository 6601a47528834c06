"""Endpoints from a YAML or JSON file in llm-d's format (plugin `file-discovery`).

    endpoints:
      - name: vllm-0
        namespace: default
        address: 10.0.0.7
        port: "8000"
        labels: {llm-d.ai/role: decode}

The file may have 1 MiB. An address is an IPv4 or IPv6 literal (llm-d accepts IPv4 only).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from watchfiles import awatch

from epp.address import parse_ip_literal, parse_port
from epp.api import Discovery, DiscoveryNotifier, Endpoint
from epp.config.convert import INVALID, convert_value
from epp.errors import ConfigError, Problem

log = logging.getLogger("epp.files")

MAX_BYTES = 1024 * 1024
DEBOUNCE_MS = 100
POLL_INTERVAL_MS = 60_000


class FileDiscovery(Discovery, type="file-discovery"):
    """Take the endpoints from the file `path`; with `watchFile`, also whenever it changes.

    A file that cannot be used ends the start. Later, the pool keeps the endpoints of the last usable content.
    """

    path: Annotated[str, msgspec.Meta(min_length=1)]
    watch_file: bool = False

    def __post_init__(self) -> None:
        self._has_listed = False

    async def run(self, notifier: DiscoveryNotifier) -> None:
        """Reports the endpoints in the file, and with `watch_file` those of each changed content until cancelled.

        ConfigError if the file cannot be used at first. Without `watch_file` it returns after the first list.
        """
        path = Path(self.path)
        content = _read_content(path)
        if self._has_listed:  # run again after a failure of the watch
            _report_change(content, path, notifier)
        else:
            notifier.replace_all(parse_endpoint_file(content, self.path))
            self._has_listed = True
        if self.watch_file:
            await _watch_file(path, content, notifier)


class EndpointFileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One endpoint in the file."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    address: str
    port: str | int
    namespace: str = "default"
    labels: dict[str, str] = {}

    def to_endpoint(self) -> Endpoint:
        """The endpoint; ValueError with what is wrong with it."""
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


def parse_endpoint_file(content: bytes | OSError, path: str = "") -> list[Endpoint]:
    """The endpoints in the content of the file `path`; ConfigError with everything that is wrong with it."""
    if isinstance(content, OSError):
        raise ConfigError([Problem("", f"cannot be read: {content.strerror}")], path) from content
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


async def _watch_file(path: Path, content: bytes | OSError, notifier: DiscoveryNotifier) -> None:
    """Reports every content that differs from the one before; the first one from `content`.

    Watches the folder, not the file: editors and Kubernetes replace files, by renaming or by a link (kubelet's `..data`
    in mounted ConfigMaps). Also compares the content once a minute, for file systems that report no changes.
    """
    async for _ in awatch(
        path.parent,
        recursive=False,
        debounce=DEBOUNCE_MS,
        step=10,
        rust_timeout=POLL_INTERVAL_MS,
        yield_on_timeout=True,
    ):
        found = _read_content(path)
        if found != content and not (isinstance(found, OSError) and isinstance(content, OSError)):
            _report_change(found, path, notifier)
        content = found


def _read_content(path: Path) -> bytes | OSError:
    """The content, up to one byte more than is allowed, or why it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        return error


def _report_change(content: bytes | OSError, path: Path, notifier: DiscoveryNotifier) -> None:
    """Reports the endpoints in `content`; if it cannot be used, logs why and leaves the last endpoints in place."""
    try:
        endpoints = parse_endpoint_file(content, str(path))
    except ConfigError as error:
        log.error("%s; keeping its last endpoints", error)
        return
    notifier.replace_all(endpoints)
    log.info("%s: %d endpoints", path, len(endpoints))
