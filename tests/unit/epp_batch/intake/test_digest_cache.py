"""Hashes and durations that are read again only from a changed file."""

from __future__ import annotations

import os

import msgspec
import pytest

from epp_batch.intake import gather_recordings
from epp_batch.intake.digest_cache import FileDigest
from epp_batch.output_folder import load_struct, save_struct
from tests.unit.epp_batch.intake.conftest import record


def test_digest_is_cached_until_the_file_changes(audio, folder):
    path = record(audio / "a.wav", 1.0)
    first = gather_recordings([str(path)], folder).recordings[0]
    cache = folder.root / ".epp-batch" / "digests.json"
    known = load_struct(cache, dict[str, FileDigest])[str(path)]
    assert known.sha256 == first.sha256
    save_struct(cache, {str(path): msgspec.structs.replace(known, sha256="cached")})
    assert gather_recordings([str(path)], folder).recordings[0].sha256 == "cached"
    os.utime(path, ns=(0, 1))
    assert gather_recordings([str(path)], folder).recordings[0].sha256 == first.sha256


def test_cached_digest_without_duration_is_probed_later(audio, folder):
    record(audio / "a.wav", 1.0)
    assert gather_recordings([str(audio)], folder, probe_lengths=False).recordings[0].seconds is None
    assert gather_recordings([str(audio)], folder).recordings[0].seconds == pytest.approx(1.0, abs=0.1)


def test_dry_run_writes_no_cache(audio, folder):
    record(audio / "a.wav", 1.0)
    gather_recordings([str(audio)], folder, save_cache=False)
    assert not folder.root.exists()
