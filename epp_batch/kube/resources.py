"""Paths of API resources, and the label, finalizer and group names that Kubernetes and Kueue define."""

from __future__ import annotations

from typing import NamedTuple

KUEUE_GROUP = "kueue.x-k8s.io"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
JOB_TRACKING_FINALIZER = "batch.kubernetes.io/job-tracking"
"""On a pod until the Job controller has counted it (`JobTrackingFinalizer` in k8s.io/api/batch/v1)."""


class Resource(NamedTuple):
    """A collection of the API: group and version (`v1` or `GROUP/VERSION`), plural name, scope."""

    group_version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """Path of the collection, of one object, or of its subresource `sub`; no namespace means all namespaces."""
        parts = ["/apis" if "/" in self.group_version else "/api", self.group_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *filter(None, (name, sub))])


PODS = Resource("v1", "pods")
NODES = Resource("v1", "nodes", namespaced=False)
NAMESPACES = Resource("v1", "namespaces", namespaced=False)
CONFIG_MAPS = Resource("v1", "configmaps")
PERSISTENT_VOLUME_CLAIMS = Resource("v1", "persistentvolumeclaims")
JOBS = Resource("batch/v1", "jobs")
RESOURCE_CLAIM_TEMPLATES = Resource("resource.k8s.io/v1", "resourceclaimtemplates")
RESOURCE_SLICES = Resource("resource.k8s.io/v1", "resourceslices", namespaced=False)
DEVICE_CLASSES = Resource("resource.k8s.io/v1", "deviceclasses", namespaced=False)


class KueueResources(NamedTuple):
    """Kueue's API resources in the version that the cluster serves (`v1beta2`)."""

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
    def cohorts(self) -> Resource:
        return self._resource("cohorts", namespaced=False)

    @property
    def resource_flavors(self) -> Resource:
        return self._resource("resourceflavors", namespaced=False)

    @property
    def workload_priority_classes(self) -> Resource:
        return self._resource("workloadpriorityclasses", namespaced=False)

    def pending_workloads_path(self, namespace: str, local_queue: str) -> str:
        """Path of a LocalQueue's pending workloads in queue order (Kueue's visibility API, an aggregated API that
        many clusters do not install).
        """
        queues = f"/apis/visibility.{KUEUE_GROUP}/{self.version}/namespaces/{namespace}/localqueues"
        return f"{queues}/{local_queue}/pendingworkloads"
