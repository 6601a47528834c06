"""The batch stage: audio files to transcripts with Whisper, and transcripts to summaries with an LLM.

Flows in: audio files, folders, URLs and manifests named on the command line. Flows out: an output folder with
transcripts, summaries, a journal of events and reports. `intake` turns sources into units of work; `controller` runs
each unit as a Kubernetes Job queued by Kueue (built by `manifests`, written through `kube`), `local` runs the same
worker in processes of this machine; `worker` transcribes; `summaries` sends transcripts through the gateway to an LLM.
`planner` simulates Kueue, `preflight` checks a run against a cluster's queues and nodes, `progress_view` shows a run
while it is in progress, `report` reads the journal.

State lives in the output folder and in the cluster, not in this process: every command can be interrupted and repeated.
The stage shares errors, header names, clock and tasks with the picker and nothing else.
"""
