"""Generated from protos/ by protos/build.py; only epp.extproc.messages and epp.testing import it."""
