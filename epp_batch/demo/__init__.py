"""The demo: the whole batch stage on this machine, from speech to a report.

Synthesizes talks with espeak-ng (`speech`, `talks`), starts a gateway with simulated model servers and runs the
commands `transcribe --summarize` and `report` as child processes (`processes`). `scenario` defines the steps. Every
step is a command that a user could type, and is printed as such; nothing here has access to the commands' internals.
"""

from epp_batch.demo.scenario import run_demo

__all__ = ["run_demo"]
