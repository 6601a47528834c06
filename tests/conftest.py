"""Settings of every test."""

from __future__ import annotations

import os

# Set before grpc is imported. Its fork handlers restart pollers in each child process that a test forks, on descriptors
# that are being closed for exec, which occasionally aborts the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
