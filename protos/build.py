"""Compiles protos/*.proto into epp/pb/ (`make protos`). `--check` fails if the committed code is stale."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
PROTO_FOLDER = ROOT / "protos"
GENERATED_PACKAGE = Path("epp/pb")
WELL_KNOWN_PROTOS = Path(protoc.__file__).parent / "_proto"
PACKAGE_DOCSTRING = '''"""Protobuf messages of Envoy and grpc.health.v1, generated from protos/ by protos/build.py.

Only the two codecs (`epp.extproc.codec`, `epp.services.codec`) and `epp.testing` import them.
"""
'''


def compile_protos(folder: Path) -> None:
    """Writes the generated modules below `folder`, importable as `epp.pb`."""
    names = [str(GENERATED_PACKAGE / source.name) for source in sorted(PROTO_FOLDER.glob("*.proto"))]
    # protoc's virtual path: the sources import each other under the name of the package they are compiled into.
    paths = [f"-I{GENERATED_PACKAGE}={PROTO_FOLDER}", f"-I{WELL_KNOWN_PROTOS}"]
    code = protoc.main(["protoc", *paths, f"--python_out={folder}", f"--pyi_out={folder}", *names])
    if code:
        sys.exit(code)
    (folder / GENERATED_PACKAGE / "__init__.py").write_text(PACKAGE_DOCSTRING)


def read_generated_files(folder: Path) -> dict[str, str]:
    """The generated code below `folder` by file name."""
    return {
        path.name: path.read_text() for path in sorted((folder / GENERATED_PACKAGE).glob("*.py*")) if path.is_file()
    }


def main() -> int:
    """Compiles, or checks that the committed code is what compiling gives."""
    if "--check" not in sys.argv[1:]:
        compile_protos(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        compile_protos(Path(scratch))
        fresh, committed = read_generated_files(Path(scratch)), read_generated_files(ROOT)
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    if stale:
        print(f"{GENERATED_PACKAGE} is stale ({', '.join(stale)}): run `make protos`")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
