"""Command lines of the control plane's programs, and Kueue's configuration file."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.kube.cluster.certificates import FRONT_PROXY
from tests.kube.cluster.manifests import KUEUE_NAMESPACE
from tests.kube.cluster.processes import ProgramCommand

ADMIN_TOKEN = "admin-of-a-test-plane"
# The node-lifecycle controller removes the not-ready taint of a new node.
_ADMISSION_OFF = "ServiceAccount,TaintNodesByCondition"
_CONTROLLERS = (
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolume-binder-controller",
    "replicaset-controller",
    "resourceclaim-controller",
    "serviceaccount-controller",
    "ttl-after-finished-controller",
)
_RECONCILER_COUNTS = {
    "Job.batch": 5,
    "Workload.kueue.x-k8s.io": 10,
    "LocalQueue.kueue.x-k8s.io": 5,
    "Cohort.kueue.x-k8s.io": 1,
    "ClusterQueue.kueue.x-k8s.io": 5,
    "ResourceFlavor.kueue.x-k8s.io": 1,
}
_CLIENT_FLAGS = ("--kubeconfig=kubeconfig", "--leader-elect=false", "--secure-port=0")
_RATE_FLAGS = (
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
)  # the default of 20 a second caps Jobs at about 2 a second


class Ports(NamedTuple):
    """Ports on 127.0.0.1 of every server of the control plane."""

    etcd: int
    peer: int
    api: int
    webhook: int
    health: int
    metrics: int
    visibility: int
    kwok: int

    @property
    def api_server_url(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self.api}"

    @property
    def webhooks_url(self) -> str:
        """The URL of Kueue's webhooks."""
        return f"https://127.0.0.1:{self.webhook}"


def etcd_command(ports: Ports) -> ProgramCommand:
    """etcd, its data in the folder `etcd`, never synced to disk."""
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.peer}"
    return ProgramCommand(
        "etcd",
        [
            "--data-dir=etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
            "--heartbeat-interval=50",  # ms; a single member elects itself after one election timeout
            "--election-timeout=500",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ],
    )


def api_server_command(ports: Ports) -> ProgramCommand:
    """kube-apiserver with RBAC, service account tokens and aggregation."""
    return ProgramCommand(
        "kube-apiserver",
        [
            f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
            f"--secure-port={ports.api}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--tls-cert-file=pki/tls.crt",
            "--tls-private-key-file=pki/tls.key",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=pki/accounts.pub",
            "--service-account-signing-key-file=pki/accounts.key",
            "--authorization-mode=RBAC",
            "--token-auth-file=tokens.csv",
            "--endpoint-reconciler-type=none",
            f"--disable-admission-plugins={_ADMISSION_OFF}",
            "--requestheader-client-ca-file=pki/ca.crt",
            f"--requestheader-allowed-names={FRONT_PROXY}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--proxy-client-cert-file=pki/proxy.crt",
            "--proxy-client-key-file=pki/proxy.key",
            "--delete-collection-workers=8",
        ],
        {"GOGC": "200", "GOMEMLIMIT": "1600MiB"},  # by default a fourth of its time goes into collecting garbage
        stop=signal.SIGKILL,  # SIGTERM would wait for every open watch
    )


def controller_manager_command() -> ProgramCommand:
    """kube-controller-manager with the controllers that Jobs, Deployments, volumes and DRA need."""
    controllers = f"--controllers={','.join(_CONTROLLERS)}"
    return ProgramCommand(
        "kube-controller-manager", [*_CLIENT_FLAGS, *_RATE_FLAGS, controllers, "--concurrent-job-syncs=20"]
    )


def scheduler_command() -> ProgramCommand:
    """kube-scheduler with its default profile."""
    return ProgramCommand("kube-scheduler", [*_CLIENT_FLAGS, *_RATE_FLAGS])


def kwok_command(ports: Ports, stages: Path) -> ProgramCommand:
    """KWOK, which simulates the kubelet of every node with the label type=kwok."""
    return ProgramCommand(
        "kwok",
        [
            "--kubeconfig=kubeconfig",
            f"--config={stages}",
            "--manage-nodes-with-label-selector=type=kwok",
            f"--server-address=127.0.0.1:{ports.kwok}",
            "--node-lease-duration-seconds=0",
        ],
    )


def kueue_command() -> ProgramCommand:
    """Kueue's manager; MultiKueue needs a second cluster."""
    return ProgramCommand(
        "kueue", ["--config=kueue.yaml", "--kubeconfig=kubeconfig", "--feature-gates=MultiKueue=false"]
    )


def build_kueue_configuration(ports: Ports, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Kueue's configuration file: what the plane needs, overlaid by `changes` (maps merge, all else replaces)."""
    base = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": KUEUE_NAMESPACE,
        "health": {"healthProbeBindAddress": f"127.0.0.1:{ports.health}"},
        "metrics": {"bindAddress": f"127.0.0.1:{ports.metrics}", "enableClusterQueueResources": True},
        "webhook": {"host": "127.0.0.1", "port": ports.webhook, "certDir": "pki"},
        "visibilityServer": {"bindAddress": "127.0.0.1", "bindPort": ports.visibility},
        "leaderElection": {"leaderElect": False},
        # as in Kueue's own manifests; by default one reconciler takes all Jobs, one after the other
        "controller": {"groupKindConcurrency": _RECONCILER_COUNTS},
        "clientConnection": {"qps": 300, "burst": 500},
        "integrations": {"frameworks": ["batch/job"]},
        # On, although we bring the certificates: when off it insists on files under /etc.
        "internalCertManagement": {"enable": True},
    }
    return _merge_maps(base, changes)


def _merge_maps(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = _merge_maps(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result
