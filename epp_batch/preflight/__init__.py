"""Preflight: whether a run's Jobs can ever be admitted by Kueue and scheduled, checked before any is created.

Flows in: a run (`epp_batch.spec`) and the cluster's objects as decoded JSON (`ClusterInventory`): queues, flavors,
nodes, classes, claims, Kueue's configuration. Flows out: problems, each with its object and what to do (`checks`), and
how much of each quota the run requests (`fit`). `quota` computes what Kueue charges and could grant, `nodes` what nodes
can hold.

Pure: reads and writes nothing; objects that the user may not read are None and are not judged. It answers "never", not
"when": current usage and order of admission are the planner's.
"""
