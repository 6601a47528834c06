"""The cluster's side of a run: what the API server says, what that means, what is to be done about it.

client, credentials     the API server on plain dicts; reflect: list and watch that never ends
objects                 the fields we read of Jobs, Workloads, Pods
workloads               objects -> the state of one unit; milestones -> events. Pure
reconcile               what should be + what is -> actions. Pure
"""
