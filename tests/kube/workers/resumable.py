"""A worker that resumes: writes a marker, runs until a file appears, records SIGTERM, writes a termination message."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--until", type=Path)
parser.add_argument("--exit-code", type=int, default=0)
options = parser.parse_args()


def record_sigterm(*_: object) -> None:
    options.out.with_suffix(".sigterm").write_text("SIGTERM")
    sys.exit(143)


signal.signal(signal.SIGTERM, record_sigterm)
mark = options.out.with_suffix(".part")
print("resumed" if mark.exists() else "fresh", os.environ["NVIDIA_VISIBLE_DEVICES"], flush=True)
mark.touch()
while options.until is not None and not options.until.exists():
    time.sleep(0.02)
Path(os.environ["TERMINATION_LOG"]).write_text('{"done": true}')
sys.exit(options.exit_code)
