"""Generated from protos/ by protos/build.py; only epp.extproc.codec and epp.testing import it."""
