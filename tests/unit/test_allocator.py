"""The setting is taken where the C library has it, in a process of its own since it cannot be undone."""

from __future__ import annotations

import platform
import subprocess
import sys


def test_glibc_takes_the_setting() -> None:
    code = "from epp.allocator import retain_freed_memory; print(retain_freed_memory(1 << 26))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert answer == str(platform.libc_ver()[0] == "glibc")
