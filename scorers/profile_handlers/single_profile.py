"""One profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epp.api import ProfileHandler, Request


class SingleProfile(ProfileHandler, type="single-profile-handler"):
    """Run the only profile; its choice is the destination."""

    lenient = True

    def objections(self, available: Sequence[str]) -> Sequence[str]:
        if len(available) == 1:
            return ()
        return (f"takes exactly one scheduling profile, not {len(available)} ({', '.join(available) or 'none'})",)

    def profiles(self, request: Request, available: Sequence[str], done: Mapping[str, bool]) -> Sequence[str]:
        return () if done else available[:1]

    def primary(self, request: Request, done: Mapping[str, bool]) -> str:
        return next(iter(done))
