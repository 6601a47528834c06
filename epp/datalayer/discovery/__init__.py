"""Where endpoints come from: flags, DNS names, llm-d's endpoint file.

In: names and files. Out: lists of endpoints. Each discovery owns its own list; their union is kept by
`epp.datalayer.endpoint_union`, and the endpoints' columns by `epp.datastore`.
"""
