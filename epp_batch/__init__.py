"""The batch stage: audio to transcripts with Whisper, by Kueue on a cluster or here, and transcripts to summaries."""
