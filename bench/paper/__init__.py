"""Repeats the experiments of arXiv 2602.04900 in virtual time and, compressed, on a real control plane.

`arms` defines the configurations and simulates them; `orders` explores what the paper leaves open; `real` plays the
arms on a control plane and `delays` repeats the simulation with the delays measured there; `tables`, `charts` and
`document` write docs/paper.md. In: jobs.csv. The decisions are those of `epp_batch.planner`; none are made here.
"""
