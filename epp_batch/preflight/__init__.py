"""Whether a run can ever be admitted: its Jobs against quota, nodes and queues, before anything is created.

In: Jobs as manifests, and objects of the cluster. Out: findings that name the place and the way out. Pure.
"""
