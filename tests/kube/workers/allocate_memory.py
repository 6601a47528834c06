"""Allocates more and more memory, or fails with one log line."""

from __future__ import annotations

import sys
import time

if sys.argv[1:] == ["--fail"]:
    print("failed as requested")
    sys.exit(1)
blocks = []
while len(blocks) < 1000:
    blocks.append(bytearray(4 << 20))
    time.sleep(0.005)
