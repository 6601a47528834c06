"""From units to objects of the cluster's API, as plain dicts: Jobs, queues, claims, and what would keep them waiting.

Pure: reads and writes nothing.
"""
