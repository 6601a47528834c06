"""Summaries of transcripts by a language model behind the gateway, while further transcripts are still made."""

from epp_batch.summaries.settings import TEMPLATE, Settings
from epp_batch.summaries.summarizer import Outcome, Summarizer
from epp_batch.summaries.summary import Summary

__all__ = ["TEMPLATE", "Outcome", "Settings", "Summarizer", "Summary"]
