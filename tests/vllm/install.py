"""Installs vLLM for CPU into a folder of its own, once; says plainly where that is not possible.

PyPI's torch is a CUDA build and loads only if the CUDA libraries it links are there, though CPU work never calls them.
They would be 4 GB; stubs that answer "no device" are 0.3 MB. Do not use such a folder where a GPU is to be used.
"""

from __future__ import annotations

import collections
import glob
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "vllm-cpu.txt"
VENV = ROOT / ".venv-vllm"
STAMP = VENV / "installed"
NEEDED_DISK = 5 << 30
CUDA_SYMBOL = re.compile(r" U ((?:__)?(?:cuda|cu[a-z]|cuFile|nccl|nv)\w*)@?@?(\S*)")
CUDA_LIBRARY = re.compile(r"NEEDED.*\[(lib(?:cu|nccl|nv)[^\]]*)")
SHIM = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n"


def obstacle() -> str | None:
    """Why real vLLM cannot run here, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the pinned vLLM wheels are for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    if sys.version_info[:2] != (3, 11):
        return f"the pins are for Python 3.11, this is {platform.python_version()} (make PYTHON=python3.11 test-vllm)"
    missing = [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found; apt-get install gcc binutils"
    if not STAMP.exists() and shutil.disk_usage(ROOT).free < NEEDED_DISK:
        return "less than 5 GiB of disk are free"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None if memory > 8 << 30 else "three servers need about 5 GiB of memory, this machine has less than 8"


def install() -> None:
    """The venv, the stubs and the distribution name that the vLLM command line asks for."""
    if STAMP.exists() and STAMP.read_text() == _fingerprint():
        return
    python = VENV / "bin" / "python"
    print(f"vLLM for CPU into {VENV.name}: about 1 GB to download, 3 GB on disk, two minutes", flush=True)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [python, "-m", "pip", "install", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "--require-hashes", "-r", LOCK], check=True)
    packages = next((VENV / "lib").glob("python3.*")) / "site-packages"
    stub_cuda(packages / "torch" / "lib")
    shim = packages / "vllm-0.32.0+cpu.dist-info"
    shim.mkdir(exist_ok=True)
    (shim / "METADATA").write_text(SHIM)
    subprocess.run([python, "-c", "import torch; assert not torch.cuda.is_available()"], check=True)
    STAMP.write_text(_fingerprint())


def stub_cuda(folder: Path) -> None:
    """Makes every CUDA library that torch's libraries ask for and the wheel does not carry."""
    libraries = glob.glob(f"{folder}/*.so*")
    carried = {os.path.basename(path) for path in libraries} | {"libcuda.so.1"}
    missing = {name for path in libraries for name in CUDA_LIBRARY.findall(_output("readelf", "-d", path))} - carried
    wanted: dict[str, set[tuple[str, str]]] = collections.defaultdict(set)
    for path in libraries:
        for symbol, version in CUDA_SYMBOL.findall(_output("nm", "-D", path)):
            home = version if version in missing else "libnvshmem_host.so.3" if version == "NVSHMEM" else "libnccl.so.2"
            wanted[home].add((version, symbol))
    for name in sorted(missing):
        _compile(folder / name, wanted[name])


def _compile(target: Path, symbols: set[tuple[str, str]]) -> None:
    source = target.with_suffix(".stub.c")
    script = target.with_suffix(".stub.map")
    versions: dict[str, list[str]] = collections.defaultdict(list)
    for version, symbol in symbols:
        versions[version].append(symbol)
    source.write_text("\n".join(_body(symbol) for _, symbol in sorted(symbols)))
    script.write_text(
        "".join(f"{version}{{global:{';'.join(names)};}};" for version, names in versions.items() if version)
    )
    command = ["gcc", "-shared", "-fPIC", "-fno-builtin", "-w", "-o", target, source, f"-Wl,-soname,{target.name}"]
    if any(versions):
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, check=True)
    source.unlink()
    script.unlink()


def _body(symbol: str) -> str:
    if re.search(r"String$|ErrorName$", symbol):
        return f'const char*{symbol}(){{return "no CUDA";}}'
    if symbol == "cudaGetDeviceCount":
        return f"int {symbol}(int*count){{*count=0;return 100;}}"
    if symbol.startswith("__") or symbol.endswith("LastError"):
        return f"void*{symbol}(){{return 0;}}"
    return f"int {symbol}(){{return 100;}}"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _fingerprint() -> str:
    return hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()


if __name__ == "__main__":
    reason = obstacle()
    if reason is not None:
        print(f"real vLLM cannot run here: {reason}")
        sys.exit(3)
    install()
