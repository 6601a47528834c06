"""The controller of a run: watches its Jobs, Workloads and Pods and makes them what they should be.

In: objects from the informers of `epp_batch.kube`, and the run's specification. Out: Jobs created, suspended and
deleted by `job_writer`, and events in the run's journal. Owns the run's progress; how Jobs are written down is
`epp_batch.manifests`.
"""
