import asyncio
import json
import logging
from collections.abc import Iterable

import msgspec
import pytest

from epp.api import Endpoint
from epp.datalayer.discovery import file
from epp.datalayer.discovery.file import FileDiscovery
from epp.datalayer.endpoint_union import EndpointUnion
from epp.errors import ConfigError
from epp.tasks import Tasks

GOOD = """
endpoints:
  - name: vllm-0
    address: 10.0.0.1
    port: "8000"
    labels: {llm-d.ai/role: decode}
  - {name: vllm-0, namespace: blue, address: "fd00:0::1", port: 8001}
"""


class Applied(asyncio.Queue[list[str]]):
    """A table whose states can be awaited."""

    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        self.put_nowait([endpoint.target for endpoint in endpoints])


class Told(logging.Handler):
    """Log messages that can be awaited."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.put_nowait(record.getMessage())


@pytest.fixture
def told():
    told = Told()
    file.log.addHandler(told)
    yield told
    file.log.removeHandler(told)


@pytest.fixture
async def tasks():
    tasks = Tasks("test")
    yield tasks
    await tasks.close()


def test_a_file():
    assert file.parse_endpoint_file(GOOD.encode()) == [
        Endpoint(
            name="default/vllm-0",
            address="10.0.0.1",
            port=8000,
            labels={"llm-d.ai/role": "decode"},
            namespace="default",
            pod="vllm-0",
        ),
        Endpoint(name="blue/vllm-0", address="fd00::1", port=8001, namespace="blue", pod="vllm-0"),
    ]


def test_json_is_read_too():
    content = json.dumps({"endpoints": [{"name": "a", "address": "10.0.0.1", "port": "80"}]})
    assert [endpoint.target for endpoint in file.parse_endpoint_file(content.encode())] == ["10.0.0.1:80"]


def test_an_empty_pool_is_a_pool():
    assert file.parse_endpoint_file(b"endpoints: []") == []


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as raised:
        file.parse_endpoint_file(
            b"""
endpoints:
  - {name: a, address: host, port: "80"}
  - {name: b, address: 10.0.0.1, port: "0"}
  - {name: c, address: 10.0.0.1, port: "80"}
  - {name: c, address: 10.0.0.2, port: "80"}
  - {name: d, address: 10.0.0.1}
  - {name: e, address: 10.0.0.1, port: "80", adress: x}
  - just text
extra: 1
""",
            "pool.yaml",
        )
    assert raised.value.source == "pool.yaml"
    paths = {problem.path: problem.message for problem in raised.value.problems}
    assert paths["endpoints[0]"] == "invalid IP address 'host'; for a DNS name use --dns NAME:PORT"
    assert paths["endpoints[1]"] == "invalid port '0': expected 1-65535"
    assert paths["endpoints[3]"] == "default/c is listed twice"
    assert paths["endpoints[4].port"] == "is required"
    assert "did you mean `address`" in paths["endpoints[5].adress"]
    assert set(paths) == {f"endpoints[{i}]" for i in (0, 1, 3, 6)} | {
        "endpoints[4].port",
        "endpoints[5].adress",
        "extra",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"endpoints: [", "neither YAML nor JSON"),
        (b"\x80 endpoints", "neither YAML nor JSON"),
        (b"- a", "has no `endpoints`"),
        (b"", "has no `endpoints`"),
        (b"{}", "endpoints: is required"),
        (b"endpoints: x", "expected `array`"),
        (b"#" * (file.MAX_BYTES + 1), "is larger than 1048576 bytes"),
    ],
)
def test_what_is_no_endpoint_file(content, message):
    with pytest.raises(ConfigError, match=message):
        file.parse_endpoint_file(content)


def test_parameters():
    plugin = msgspec.convert({"path": "/x", "watchFile": True}, FileDiscovery)
    assert (plugin.path, plugin.watch_file) == ("/x", True)
    with pytest.raises(msgspec.ValidationError, match="path"):
        msgspec.convert({}, FileDiscovery)


async def test_a_file_that_is_missing_or_wrong_at_the_start_is_fatal(tmp_path, tasks):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: 1 problem.*\n.*cannot be read"):
        await file.start_file_discovery(
            FileDiscovery(path=str(tmp_path / "nowhere.yaml")), EndpointUnion(Applied()), tasks
        )
    assert len(tasks) == 0


async def test_without_watching_the_file_is_read_once(tmp_path, tasks):
    path = tmp_path / "pool.yaml"
    path.write_text(GOOD)
    applied = Applied()
    await file.start_file_discovery(FileDiscovery(path=str(path)), EndpointUnion(applied), tasks)
    assert applied.get_nowait() == ["10.0.0.1:8000", "[fd00::1]:8001"]
    assert len(tasks) == 0


async def test_changes_are_followed_and_bad_ones_are_not(tmp_path, tasks, told):
    path = tmp_path / "pool.yaml"
    path.write_text(GOOD)
    applied = Applied()
    await file.start_file_discovery(FileDiscovery(path=str(path), watch_file=True), EndpointUnion(applied), tasks)
    assert await applied.get() == ["10.0.0.1:8000", "[fd00::1]:8001"]
    assert await applied.get() == ["10.0.0.1:8000", "[fd00::1]:8001"]  # the watch has begun

    replacement = tmp_path / "new"
    replacement.write_text("endpoints: [{name: a, address: 10.0.0.2, port: '1'}]")
    replacement.rename(path)
    assert await applied.get() == ["10.0.0.2:1"]

    path.write_text("endpoints: [{name: a, address: nowhere, port: '1'}]")
    message = await told.messages.get()
    assert message.startswith(f"{path}: 1 problem")
    assert "endpoints[0]: invalid IP address 'nowhere'" in message
    path.unlink()
    assert await told.messages.get() == f"{path} cannot be read; its last endpoints stay"
    assert applied.empty()

    path.write_text("endpoints: []")
    assert await applied.get() == []


async def test_a_link_that_is_pointed_elsewhere_is_a_change(tmp_path, tasks):
    """As kubelet updates a mounted ConfigMap."""
    for version, port in (("v1", 1), ("v2", 2)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "pool.yaml").write_text(f"endpoints: [{{name: a, address: 10.0.0.1, port: {port}}}]")
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "pool.yaml").symlink_to("data/pool.yaml")
    applied = Applied()
    await file.start_file_discovery(
        FileDiscovery(path=str(tmp_path / "pool.yaml"), watch_file=True), EndpointUnion(applied), tasks
    )
    assert [await applied.get(), await applied.get()] == [["10.0.0.1:1"]] * 2
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "data")
    assert await applied.get() == ["10.0.0.1:2"]
