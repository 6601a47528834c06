"""Profile handler for a single profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epp.api import ProfileHandler, Request


class SingleProfileHandler(ProfileHandler, type="single-profile-handler"):
    """Run the only scheduling profile; its choice is the destination."""

    ignore_unknown_parameters = True

    def validate_profiles(self, available: Sequence[str]) -> Sequence[str]:
        if len(available) == 1:
            return ()
        return (f"takes exactly one scheduling profile, not {len(available)} ({', '.join(available) or 'none'})",)

    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        return () if results else available[:1]

    def primary_profile(self, request: Request, results: Mapping[str, bool]) -> str:
        return next(iter(results))
