from epp.api import RUNNING_REQUESTS, Endpoints, Positive, Request, Scorer, Scores


class ShortPromptScorer(Scorer, type="short-prompt-scorer"):
    """Send short prompts where the batch is small."""

    consumes = (RUNNING_REQUESTS,)
    short_bytes: Positive = 1000

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return 1 / (1 + endpoints[RUNNING_REQUESTS] * (len(request.text) < self.short_bytes))
