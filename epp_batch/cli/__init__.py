"""One module a command: `HELP`, `arguments(parser)` and `run(args) -> exit code`.

Modules import what they need inside `run`, so that `epp-batch --help` does not load Whisper.
"""
