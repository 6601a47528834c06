"""The whole stage on this machine: speech, real Whisper, a real gateway, summaries, a report."""

from epp_batch.demo.scenario import run_demo

__all__ = ["run_demo"]
