"""`epp-batch status` if the API server does not answer; the rest is in tests/kube/test_drive_commands.py."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import pytest

from epp_batch.cli import status
from epp_batch.errors import ApiServerUnreachable
from epp_batch.kube.resources import KueueResources
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import ClusterOptions, Run, TranscriptionOptions


class SilentClient:
    """An API server that accepts requests and does not answer."""

    server, namespace = "https://silent:6443", "ns"

    async def discover_kueue(self) -> KueueResources:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture(autouse=True)
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "CLUSTER_TIMEOUT_SECONDS", 0.01)


async def show_status(**flags: object) -> int:
    args = argparse.Namespace(
        **{"folder": None, "run_name": None, "namespace": None, "json": False, "units": False} | flags
    )
    return await status._show_status(args, SilentClient())  # type: ignore[arg-type]


async def test_without_an_answer_the_status_is_that_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cluster = ClusterOptions(namespace="ns", queue="q", image="i")
    run = Run(name="r", output=str(tmp_path), options=TranscriptionOptions(), units=(), cluster=cluster)
    OutputFolder(tmp_path).save_run(run)
    assert await show_status(folder=str(tmp_path)) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("r: 0 of 0 done")
    assert "https://silent:6443 has not answered within 0.01 s; this is from the folder alone" in shown.err


async def test_without_an_answer_and_a_folder_the_server_is_named():
    with pytest.raises(ApiServerUnreachable, match="silent:6443 has not answered within"):
        await show_status(run_name="r")
