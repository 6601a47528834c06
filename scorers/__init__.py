"""The built-in plugins for scheduling: scorers at the top, every other kind in a package of its own.

A module is named after the plugin type (`queue-scorer` is in `queue.py`), a class too (`QueueScorer`); entry points in
pyproject.toml register them. Types, parameters and formulas are those of llm-d's plugins (pkg/epp/framework/plugins),
unless a docstring or docs/differences.md notes otherwise. Flows in: requests, candidates and their columns. Flows out:
scores, masks, positions, produced columns. State that outlives a request is the plugin instance's own (the prefix
index). Plugins import `epp.api` only, as plugins of other packages do. Parsers are in `epp.parsers`; discovery, data
sources and extractors in `epp.datalayer`.
"""
