"""Cores that a container may use."""

from __future__ import annotations

import os

import pytest

from epp_batch.worker.hardware import count_usable_cores, list_visible_gpus

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("100000 100000\n", 1), ("20000 100000\n", 1), ("99900000 100000\n", ALL), ("max 100000\n", ALL)],
)
def test_a_quota_counts(tmp_path, text, expected):
    (tmp_path / "cpu.max").write_text(text)
    assert count_usable_cores(tmp_path / "cpu.max") == expected


def test_without_cgroups(tmp_path):
    assert count_usable_cores(tmp_path / "missing") == ALL


def test_gpus_that_are_hidden_are_not_there(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert list_visible_gpus() == []
