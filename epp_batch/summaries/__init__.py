"""Summaries of transcripts by a language model behind the gateway, while further transcripts are still made."""

from epp_batch.summaries.settings import DEFAULT_TEMPLATE, SummarySettings
from epp_batch.summaries.summarizer import SummariesOutcome, Summarizer
from epp_batch.summaries.summary import Summary

__all__ = ["DEFAULT_TEMPLATE", "SummariesOutcome", "SummarySettings", "Summarizer", "Summary"]
