"""Client of the Kubernetes API server: typed objects, list and watch. It knows nothing of runs, units or recordings.

In:  a kubeconfig or a service account (`credentials`), and paths of API resources (`resources`).
Out: plain dicts (`client`), the few fields of Jobs, Workloads and Pods that we read (`objects`), and a local copy of a
     collection with its changes (`informer`, client-go's Reflector and Store).

State: an `ApiClient` owns its HTTP session and its credentials; a `Store` is written by one `Reflector` only.
Every request raises `ClusterError` or a subclass (`errors`). What objects mean for a run, and every write of a Job,
belongs to `epp_batch.controller`.
"""
