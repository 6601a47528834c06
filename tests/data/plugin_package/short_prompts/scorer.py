from epp.api import RUNNING, Endpoints, Positive, Request, Scorer, Scores


class ShortPrompt(Scorer, type="short-prompt-scorer"):
    """Send short prompts where the batch is small."""

    needs = (RUNNING,)
    short_bytes: Positive = 1000

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return 1 / (1 + endpoints[RUNNING] * (len(request.text) < self.short_bytes))
