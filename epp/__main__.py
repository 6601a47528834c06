"""The `epp` command: argument parsing only."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command named by the first argument."""
    return 0


if __name__ == "__main__":
    sys.exit(main())
