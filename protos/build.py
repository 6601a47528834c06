"""Compiles protos/*.proto into epp/pb/ (`make protos`); `--check` fails if what is committed is not current."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "protos"
TARGET = Path("epp/pb")
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
PACKAGE_DOC = '"""Generated from protos/ by protos/build.py; only epp.extproc.codec and epp.testing import it."""\n'


def compile_into(folder: Path) -> None:
    """Writes the generated modules below `folder`, importable as epp.pb."""
    names = [str(TARGET / source.name) for source in sorted(SOURCES.glob("*.proto"))]
    # A virtual path: files are imported under the name of the package they are compiled into.
    paths = [f"-I{TARGET}={SOURCES}", f"-I{WELL_KNOWN}"]
    code = protoc.main(["protoc", *paths, f"--python_out={folder}", f"--pyi_out={folder}", *names])
    if code:
        sys.exit(code)
    (folder / TARGET / "__init__.py").write_text(PACKAGE_DOC)


def generated(folder: Path) -> dict[str, str]:
    """File name -> text."""
    return {path.name: path.read_text() for path in sorted((folder / TARGET).glob("*.py*")) if path.is_file()}


def main() -> int:
    """Builds, or compares with what is there."""
    if "--check" not in sys.argv[1:]:
        compile_into(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        compile_into(Path(scratch))
        fresh, committed = generated(Path(scratch)), generated(ROOT)
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    if stale:
        print(f"{TARGET} is not what protos/ says ({', '.join(stale)}); run `make protos`")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
