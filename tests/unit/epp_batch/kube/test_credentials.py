"""Credentials from kubeconfig files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from epp_batch.errors import ClusterError
from epp_batch.kube.credentials import SERVICE_HOST_VARIABLE, load_credentials


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", SERVICE_HOST_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def write_kubeconfig(path: Path, name: str, *, namespace: str = "") -> Path:
    """A kubeconfig with one cluster, user and context, all of this name."""
    context = {"cluster": name, "user": name, **({"namespace": namespace} if namespace else {})}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.test:6443/"}}],
        "users": [{"name": name, "user": {"token": f"token-{name}"}}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def test_server_namespace_and_token_are_those_of_the_current_context(tmp_path: Path):
    loaded = await load_credentials(str(write_kubeconfig(tmp_path / "config", "one", namespace="whisper")))
    assert (loaded.server, loaded.namespace) == ("https://one.test:6443", "whisper")
    assert await loaded.auth_headers() == {"authorization": "Bearer token-one"}


async def test_contexts_of_all_files_in_the_environment_can_be_chosen_and_missing_files_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = [write_kubeconfig(tmp_path / name, name) for name in ("one", "two")]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, [tmp_path / "missing", *files])))
    assert (await load_credentials(context="one")).server == "https://one.test:6443"
    second = await load_credentials(context="two")
    assert (second.server, second.namespace) == ("https://two.test:6443", "default")


async def test_what_is_missing_or_invalid_is_named(tmp_path: Path):
    with pytest.raises(ClusterError, match=r"\.kube/config: no such kubeconfig; check --kubeconfig"):
        await load_credentials()
    with pytest.raises(ClusterError, match="missing: no such kubeconfig"):
        await load_credentials(str(tmp_path / "missing"))
    config = write_kubeconfig(tmp_path / "config", "one")
    with pytest.raises(ClusterError, match=f"{config}: no context 'other'"):
        await load_credentials(str(config), "other")
    config.write_text("a: [")
    with pytest.raises(ClusterError, match=f"{config}: "):
        await load_credentials(str(config))
