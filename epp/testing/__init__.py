"""For authors of plugins: builders, contract checks, transcripts. Imports no test framework."""

from epp.testing.build import endpoint, endpoints, request
from epp.testing.contract import check_filter, check_picker, check_producer, check_scorer

__all__ = ["check_filter", "check_picker", "check_producer", "check_scorer", "endpoint", "endpoints", "request"]
