"""Cores and GPUs that a container may use."""

from __future__ import annotations

import os

import pytest

from epp_batch.worker.hardware import count_usable_cores, list_visible_gpus

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("100000 100000\n", 1), ("20000 100000\n", 1), ("99900000 100000\n", ALL), ("max 100000\n", ALL)],
)
def test_cgroup_quota_limits_cores(tmp_path, text, expected):
    (tmp_path / "cpu.max").write_text(text)
    assert count_usable_cores(tmp_path / "cpu.max") == expected


def test_cores_without_cgroup(tmp_path):
    assert count_usable_cores(tmp_path / "missing") == ALL


def test_hidden_gpus_are_not_listed(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert list_visible_gpus() == []
