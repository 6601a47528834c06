"""Summaries of finished transcripts by an LLM behind the gateway, over the OpenAI chat completions API.

Flows in: finished tasks, submitted as their transcripts are written; settings; the gateway's addresses. Flows out:
`<stem>.summary.md` and `<stem>.summary.json` beside the transcript, `summarizing`, `first-token`, `refused`,
`summarized` and `unsummarized` events, failures.

`Summarizer` limits concurrency and owns the pending tasks; `SummaryRequester` makes one summary: model, prompt,
retries; `GatewayClient` makes one attempt; `retry` and `prompt` are pure. Nothing here reads audio or knows of Jobs: a
summary that already answers the same question (`SummarySettings.key`) is not requested again, so every run may be
repeated.
"""

from epp_batch.summaries.settings import DEFAULT_TEMPLATE, SummarySettings
from epp_batch.summaries.summarizer import SummariesOutcome, Summarizer
from epp_batch.summaries.summary import Summary

__all__ = ["DEFAULT_TEMPLATE", "SummariesOutcome", "Summarizer", "Summary", "SummarySettings"]
