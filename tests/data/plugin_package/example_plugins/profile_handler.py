from collections.abc import Mapping, Sequence

from epp.api import Endpoint, ProfileHandler, Request, RequestHeaderProvider


class PrefillDecodeHandler(ProfileHandler, RequestHeaderProvider, type="prefill-decode-handler"):
    """Run the profiles decode and prefill; decode is the destination, a header names the prefill endpoint."""

    def validate_profiles(self, available: Sequence[str]) -> Sequence[str]:
        return [f"needs a profile {name!r}" for name in ("decode", "prefill") if name not in available]

    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        if not results:
            return ["decode"]
        return ["prefill"] if results == {"decode": True} else []

    def primary_profile(self, request: Request, results: Mapping[str, bool]) -> str:
        return "decode"

    def request_headers(self, request: Request, chosen: Mapping[str, Endpoint]) -> Mapping[str, str]:
        return {"x-prefill": chosen["prefill"].target} if "prefill" in chosen else {}
