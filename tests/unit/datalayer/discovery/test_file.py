"""llm-d's endpoint file: its format, its mistakes, and its changes while it is watched."""

import asyncio
import json
import logging

import msgspec
import pytest

from epp.api import Endpoint
from epp.datalayer.discovery import file
from epp.datalayer.discovery.file import FileDiscovery
from epp.errors import ConfigError

GOOD = """
endpoints:
  - name: vllm-0
    address: 10.0.0.1
    port: "8000"
    labels: {llm-d.ai/role: decode}
  - {name: vllm-0, namespace: blue, address: "fd00:0::1", port: 8001}
"""


class LoggedErrors(logging.Handler):
    """Messages of logged errors, to be awaited."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.put_nowait(record.getMessage())


@pytest.fixture
def logged_errors():
    handler = LoggedErrors()
    file.log.addHandler(handler)
    yield handler
    file.log.removeHandler(handler)


def test_parse_endpoint_file():
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


def test_json_is_accepted():
    content = json.dumps({"endpoints": [{"name": "a", "address": "10.0.0.1", "port": "80"}]})
    assert [endpoint.target for endpoint in file.parse_endpoint_file(content.encode())] == ["10.0.0.1:80"]


def test_an_empty_list_is_accepted():
    assert file.parse_endpoint_file(b"endpoints: []") == []


def test_every_problem_is_reported():
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
        (b"endpoints: x", "expected a list"),
        (b"#" * (file.MAX_BYTES + 1), "is larger than 1048576 bytes"),
    ],
)
def test_content_that_is_not_an_endpoint_file(content, message):
    with pytest.raises(ConfigError, match=message):
        file.parse_endpoint_file(content)


def test_parameters_of_the_plugin():
    plugin = msgspec.convert({"path": "/x", "watchFile": True}, FileDiscovery)
    assert (plugin.path, plugin.watch_file) == ("/x", True)
    with pytest.raises(msgspec.ValidationError, match="path"):
        msgspec.convert({}, FileDiscovery)


async def test_a_missing_file_is_a_config_error(tmp_path, notifier):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: 1 problem.*\n.*cannot be read: No such file or directory"):
        await FileDiscovery(path=str(tmp_path / "nowhere.yaml")).run(notifier)
    assert not notifier.synced


async def test_an_unusable_file_is_a_config_error(tmp_path, notifier):
    path = tmp_path / "pool.yaml"
    path.write_text("endpoints: 5")
    with pytest.raises(ConfigError, match="expected a list"):
        await FileDiscovery(path=str(path), watch_file=True).run(notifier)
    assert not notifier.synced


async def test_without_watching_run_returns_after_the_first_list(tmp_path, notifier):
    path = tmp_path / "pool.yaml"
    path.write_text(GOOD)
    await FileDiscovery(path=str(path)).run(notifier)
    assert await notifier.targets() == ["10.0.0.1:8000", "[fd00::1]:8001"]


async def test_usable_changes_are_reported_and_unusable_ones_logged(tmp_path, notifier, running, logged_errors):
    path = tmp_path / "pool.yaml"
    path.write_text(GOOD)
    async with running(FileDiscovery(path=str(path), watch_file=True)):
        assert await notifier.targets() == ["10.0.0.1:8000", "[fd00::1]:8001"]  # from here on the folder is watched

        replacement = tmp_path / "new"
        replacement.write_text("endpoints: [{name: a, address: 10.0.0.2, port: '1'}]")
        replacement.rename(path)
        assert await notifier.targets() == ["10.0.0.2:1"]

        path.write_text("endpoints: [{name: a, address: nowhere, port: '1'}]")
        message = await logged_errors.messages.get()
        assert message.startswith(f"{path}: 1 problem")
        assert "endpoints[0]: invalid IP address 'nowhere'" in message
        path.unlink()
        message = await logged_errors.messages.get()
        assert message.startswith(f"{path}: 1 problem")
        assert message.endswith("cannot be read: No such file or directory; keeping its last endpoints")
        assert notifier.lists.empty()

        path.write_text("endpoints: []")
        assert await notifier.targets() == []


async def test_a_link_to_another_folder_is_a_change(tmp_path, notifier, running):
    """As kubelet updates a mounted ConfigMap."""
    for version, port in (("v1", 1), ("v2", 2)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "pool.yaml").write_text(f"endpoints: [{{name: a, address: 10.0.0.1, port: {port}}}]")
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "pool.yaml").symlink_to("data/pool.yaml")
    async with running(FileDiscovery(path=str(tmp_path / "pool.yaml"), watch_file=True)):
        assert await notifier.targets() == ["10.0.0.1:1"]
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").rename(tmp_path / "data")
        assert await notifier.targets() == ["10.0.0.1:2"]


async def test_a_run_after_a_failed_watch_lists_again_and_tolerates_an_unusable_file(
    tmp_path, notifier, running, logged_errors
):
    path = tmp_path / "pool.yaml"
    path.write_text(GOOD)
    discovery = FileDiscovery(path=str(path), watch_file=True)
    async with running(discovery):
        assert len(await notifier.targets()) == 2
    path.write_text("endpoints: [{name: a, address: 10.0.0.2, port: '1'}]")
    async with running(discovery):
        assert await notifier.targets() == ["10.0.0.2:1"]
    path.write_text("endpoints: 5")
    async with running(discovery):
        assert "expected a list" in await logged_errors.messages.get()
        path.write_text("endpoints: []")
        assert await notifier.targets() == []
