"""Where the API keeps what we read and write."""

from __future__ import annotations

from typing import NamedTuple

KUEUE_GROUP = "kueue.x-k8s.io"
PAUSED_ANNOTATION = "epp-batch/paused"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
JOB_TRACKING_FINALIZER = "batch.kubernetes.io/job-tracking"


class Resource(NamedTuple):
    """A collection: `v1` or `GROUP/VERSION`, and the plural name."""

    group_version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """The collection, one object, or a subresource of it; all namespaces when none is given."""
        parts = ["/apis" if "/" in self.group_version else "/api", self.group_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *filter(None, (name, sub))])


PODS = Resource("v1", "pods")
NODES = Resource("v1", "nodes", namespaced=False)
JOBS = Resource("batch/v1", "jobs")
RESOURCE_CLAIM_TEMPLATES = Resource("resource.k8s.io/v1", "resourceclaimtemplates")
RESOURCE_CLAIMS = Resource("resource.k8s.io/v1", "resourceclaims")
DEVICE_CLASSES = Resource("resource.k8s.io/v1", "deviceclasses", namespaced=False)


class KueueResources(NamedTuple):
    """Kueue's collections in the version that the cluster serves."""

    version: str

    def _resource(self, plural: str, namespaced: bool = True) -> Resource:
        return Resource(f"{KUEUE_GROUP}/{self.version}", plural, namespaced)

    @property
    def workloads(self) -> Resource:
        return self._resource("workloads")

    @property
    def local_queues(self) -> Resource:
        return self._resource("localqueues")

    @property
    def cluster_queues(self) -> Resource:
        return self._resource("clusterqueues", namespaced=False)

    @property
    def resource_flavors(self) -> Resource:
        return self._resource("resourceflavors", namespaced=False)

    @property
    def workload_priority_classes(self) -> Resource:
        return self._resource("workloadpriorityclasses", namespaced=False)

    def pending_workloads_path(self, namespace: str, local_queue: str) -> str:
        """The path of a LocalQueue's waiting workloads, in order; an aggregated API that may be absent."""
        queues = f"/apis/visibility.{KUEUE_GROUP}/{self.version}/namespaces/{namespace}/localqueues"
        return f"{queues}/{local_queue}/pendingworkloads"
