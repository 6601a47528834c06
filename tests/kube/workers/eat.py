"""Allocates more and more memory, or fails with one log line."""

from __future__ import annotations

import sys
import time

if sys.argv[1:] == ["--fail"]:
    print("no food")
    sys.exit(1)
eaten = []
while len(eaten) < 1000:
    eaten.append(bytearray(4 << 20))
    time.sleep(0.005)
