"""Built-in sources of endpoints: `--endpoint` flags, DNS names, llm-d's endpoint file.

In: addresses, names and files. Out: lists of endpoints, through a `DiscoveryNotifier`.
Each discovery owns what it reports. The union of several is kept by `epp.datalayer.endpoint_union`, the endpoints'
columns by `epp.datastore`. A Kubernetes discovery (list and watch of pods) would be one more module here.
"""
