"""The result of a profile run that found no endpoint, as an error for the client."""

from __future__ import annotations

import pytest

from epp.api import NoEndpoints, Overloaded, SchedulerProfile
from epp.errors import Rejection, ServiceUnavailable
from epp.scheduling.result import ProfileRunResult
from epp.testing import build_endpoints
from scorers.pickers.max_score import MaxScorePicker


def build_result() -> ProfileRunResult:
    return ProfileRunResult(SchedulerProfile("default", picker=("picker", MaxScorePicker())), build_endpoints(3))


def test_a_new_result_has_all_candidates_and_no_order() -> None:
    result = build_result()
    assert (len(result.endpoints), len(result.order), result.first_position) == (3, 0, -1)
    assert repr(result) == "ProfileRunResult('default', 3 of 3, order=[])"


@pytest.mark.parametrize(
    ("emptied_by", "rejection_type", "filter_failed", "message"),
    [
        (None, NoEndpoints, False, "no endpoint"),
        ("limit", Overloaded, False, "no endpoint"),
        ("limit", ServiceUnavailable, True, "filter 'limit' failed"),
    ],
)
def test_the_rejection_names_a_filter_only_if_it_failed(
    emptied_by: str | None, rejection_type: type[Rejection], filter_failed: bool, message: str
) -> None:
    result = build_result()
    result.emptied_by, result.rejection_type, result.filter_failed = emptied_by, rejection_type, filter_failed
    rejection = result.build_rejection("no endpoint")
    assert type(rejection) is rejection_type
    assert rejection.message == message
