"""For authors of plugins: builders of endpoints and requests, and a contract check for each kind and interface.

A check is a function that takes an instance of a plugin and raises an AssertionError naming the rule of `epp.api`
that it breaks. Nothing here needs a test framework, and nothing of the picker imports this package. The transcripts of
ext_proc streams in `epp.testing.playbook` are for the picker's own tests; they are imported from there.
"""

from epp.testing.builders import build_endpoint, build_endpoints, build_request
from epp.testing.contracts import check_async_producer, check_filter, check_picker, check_producer, check_scorer
from epp.testing.datalayer_contracts import check_data_source, check_discovery, check_extractor
from epp.testing.hook_contracts import (
    check_load_estimator,
    check_prefix_cache_stats_provider,
    check_request_header_provider,
    check_request_hooks,
    check_state_dumper,
)
from epp.testing.request_contracts import check_parser, check_profile_handler

__all__ = [
    "build_endpoint",
    "build_endpoints",
    "build_request",
    "check_async_producer",
    "check_data_source",
    "check_discovery",
    "check_extractor",
    "check_filter",
    "check_load_estimator",
    "check_parser",
    "check_picker",
    "check_prefix_cache_stats_provider",
    "check_producer",
    "check_profile_handler",
    "check_request_header_provider",
    "check_request_hooks",
    "check_scorer",
    "check_state_dumper",
]
