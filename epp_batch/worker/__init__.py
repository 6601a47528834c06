"""The worker: runs a work order, as a pod of a Job or as a process of `epp-batch transcribe`.

Flows in: a `WorkOrder` (JSON in the environment or on stdin), audio files, the files of a CTranslate2 Whisper model.
Flows out: transcript files and sidecars in the output folder; `WorkerMessage` lines on stdout; a termination message
for Kubernetes; an exit code that the Job's podFailurePolicy reads.

`process` owns signals, stdout and the exit code; `work_order` runs the tasks one after the other with one loaded model;
`transcription_task` does one recording and owns its partial file, so that a restarted worker resumes after the last
finished batch and a finished recording is skipped. The worker knows nothing of Jobs, queues or other units, and imports
neither `kube` nor `controller`.
"""
