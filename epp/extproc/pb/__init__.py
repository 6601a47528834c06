"""Generated from protos/ by protos/build.py; imported by epp.extproc.messages only."""
