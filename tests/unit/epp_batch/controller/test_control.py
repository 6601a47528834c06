"""Control file and lock of a run's folder."""

from __future__ import annotations

from pathlib import Path

from epp_batch.controller import control
from epp_batch.output_folder import OutputFolder


def test_only_one_driver_can_lock_a_folder(tmp_path: Path):
    folder = OutputFolder(tmp_path)
    with control.lock_folder(folder) as first, control.lock_folder(folder) as second:
        assert (first, second) == (True, False)
    with control.lock_folder(folder) as third:
        assert third


def test_a_control_request_is_read_back(tmp_path: Path):
    folder = OutputFolder(tmp_path)
    assert control.read_control(folder).state == "go"
    control.write_control(folder, control.RunControl(state="paused", at=1.0))
    assert control.read_control(folder) == control.RunControl(state="paused", at=1.0)
