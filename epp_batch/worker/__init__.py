"""Orders in, transcripts out: what runs in a pod, and in each process of `epp-batch transcribe`.

`work` (worker.work) does one order. A finished recording is not done again; a half-done one goes on where it was.
"""
