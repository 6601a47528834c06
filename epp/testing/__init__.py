"""For authors of plugins: builders and contract checks; transcripts of ext_proc streams are in `epp.testing.playbook`.

Imports no test framework.
"""

from epp.testing.builders import build_endpoint, build_endpoints, build_request
from epp.testing.contracts import check_filter, check_picker, check_producer, check_scorer

__all__ = [
    "check_filter",
    "check_picker",
    "check_producer",
    "check_scorer",
    "build_endpoint",
    "build_endpoints",
    "build_request",
]
