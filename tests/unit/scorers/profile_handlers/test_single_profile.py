"""The handler of a single scheduling profile."""

from __future__ import annotations

from epp.testing import build_request
from scorers.profile_handlers.single_profile import SingleProfileHandler


def test_the_only_profile_runs_once_and_is_the_primary_one() -> None:
    handler = SingleProfileHandler()
    assert handler.pick_profiles(build_request(), ["only"], {}) == ["only"]
    assert not handler.pick_profiles(build_request(), ["only"], {"only": True})
    assert handler.primary_profile(build_request(), {"only": False}) == "only"
    assert handler.validate_profiles(["only"]) == ()
    assert handler.validate_profiles([]) == ("takes exactly one scheduling profile, not 0 (none)",)
