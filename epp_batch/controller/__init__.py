"""The controller of a run on a cluster: makes its Jobs what they should be and records what happens to them.

In:  the run (`spec.Run`), its output folder and journal, and the API objects that `kube.informer` delivers.
Out: Jobs created, deleted and deactivated (`job_writer`, the only module that writes them), timeline events in the
     journal (`event_recorder`), and the run's status for the view.

One reconciliation of a unit: `run_informer` has its objects -> `unit_status` derives its status -> `desired` says what
its Job should be -> `reconcile` returns the one next action -> `controller` records results, or `action_executor`
writes. desired, reconcile, unit_status, milestones, event_dedup, termination and diagnosis are pure.

Entry points: `drive` for `submit` and `watch`; `run_status`, `queue_positions`, `logs`, `job_writer` and `control` for
the commands that look at a run once or send its driver a request.

State: `RunController` owns everything in memory; the output folder, the journal and the cluster survive it, so a driver
that was killed is replaced by the next one. How a Job is written down belongs to `epp_batch.manifests`, HTTP to
`epp_batch.kube`, what a user sees to `epp_batch.progress_view`.
"""
