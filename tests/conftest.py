"""What holds for every test."""

from __future__ import annotations

import os

# Before grpc is imported: its fork handlers start pollers anew in each child that a test forks, on descriptors that are
# being closed for exec, and now and then one aborts the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
