"""A real Kubernetes control plane on 127.0.0.1: etcd, API server, controllers, scheduler, Kueue and KWOK.

    async with ControlPlane(folder, cache, SystemClock()) as plane, plane.connect() as api:
        await api.create(...)

Tests take it from the fixtures in conftest.py.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import yaml

from epp.clock import Clock
from tests.kube.cluster import components
from tests.kube.cluster.certificates import write_pki
from tests.kube.cluster.client import SERVICE_ACCOUNTS, ApiError, KubeApi, Object
from tests.kube.cluster.components import ADMIN_TOKEN, Ports
from tests.kube.cluster.manifests import KUEUE_NAMESPACE, VISIBILITY_SERVICE, WEBHOOK_SERVICE, Manifests
from tests.kube.cluster.processes import PortLease, ProgramCommand, ProgramSet

HERE = Path(__file__).resolve().parent
_POLL = 0.05  # seconds between two polls
T = TypeVar("T")


class NotReady(Exception):
    """Raised by the function given to `wait_until` if not ready; its argument goes into the timeout's message."""


class ControlPlane:
    """The control plane; an asynchronous context manager, but bound to no event loop."""

    def __init__(self, folder: Path, cache: Path, clock: Clock, *, kueue: Mapping[str, Any] | None = None) -> None:
        """`folder` takes data, logs and certificates; `cache` holds what `make kube-tools` built.

        `kueue` overlays Kueue's configuration file (waitForPodsReady, resources.transformations, …).
        """
        self.folder = folder.resolve()
        self.manifests = Manifests(cache)
        self.ready_after: dict[str, float] = {}  # program -> seconds from the start until it was ready
        self._clock = clock
        self._lease = PortLease(len(Ports._fields))
        self._ports = Ports(*self._lease.ports)
        self._processes = ProgramSet(cache / "bin", self.folder)
        self._kueue = dict(kueue or {})

    @property
    def kubeconfig(self) -> Path:
        """Credentials of a cluster administrator."""
        return self.folder / "kubeconfig"

    @property
    def pki(self) -> Path:
        """ca.crt, and tls.crt with tls.key for servers on 127.0.0.1."""
        return self.folder / "pki"

    @property
    def url(self) -> str:
        """The API server's URL; the same after an outage."""
        return self._ports.api_server_url

    @property
    def kueue_metrics(self) -> str:
        """The URL of Kueue's Prometheus page."""
        return f"https://127.0.0.1:{self._ports.metrics}/metrics"

    def connect(self) -> KubeApi:
        """A connection with the administrator's rights; enter it with `async with`."""
        return KubeApi(self.kubeconfig)

    def resident_memory(self) -> dict[str, int]:
        """Resident MiB of each program."""
        return self._processes.resident_memory()

    def process_ids(self) -> dict[str, int]:
        """Process ids of the programs that were started, by name."""
        return self._processes.process_ids()

    def log_path(self, name: str) -> Path:
        """The log file of one program."""
        return self._processes.log_path(name)

    # -- programs ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start_all()
        except BaseException:
            await self._stop_all()
            raise
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._stop_all()

    async def stop_program(self, name: str) -> None:
        """Stops one program: `await plane.stop_program("kube-apiserver")` is an outage. Data and ports stay."""
        await self._processes.stop(name)

    async def start_program(self, name: str) -> None:
        """Starts a stopped program and waits until it serves."""
        if name == "kueue":
            configuration = components.build_kueue_configuration(self._ports, self._kueue)
            (self.folder / "kueue.yaml").write_text(yaml.safe_dump(configuration))
        self._processes.start(self._program_command(name))
        if probe := self._readiness_probe(name):
            await self.wait_until(f"{name} serves", probe)

    async def restart_program(self, name: str, kueue: Mapping[str, Any] | None = None) -> None:
        """Restarts one program; `kueue` replaces the overlay of Kueue's configuration."""
        await self.stop_program(name)
        if kueue is not None:
            self._kueue = dict(kueue)
        await self.start_program(name)

    @asynccontextmanager
    async def with_kueue_configuration(self, **changes: Any) -> AsyncIterator[None]:
        """Runs Kueue with other settings inside the block. Kueue reads its file at start: two restarts of 2 s."""
        before = self._kueue
        await self.restart_program("kueue", {**before, **changes})
        try:
            yield
        finally:
            await self.restart_program("kueue", before)

    async def wait_until(self, what: str, ready: Callable[[], Awaitable[T | None]], limit: float = 60.0) -> T:
        """Polls `ready` until it returns something true, and returns that.

        NotReady, ApiError and lost connections do not end the wait. TimeoutError after `limit` seconds names `what` and
        what was seen last; ProcessDied as soon as a program of the plane has ended.
        """
        end = self._clock.now() + limit
        last: object = None
        while True:
            self._processes.raise_if_died()
            try:
                last = await ready()
                if last:
                    return last
            except (NotReady, ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                last = repr(error)
            if self._clock.now() > end:
                raise TimeoutError(f"not within {limit:g} s: {what}; last seen: {str(last)[:2000]}")
            await asyncio.sleep(_POLL)

    # -- objects -----------------------------------------------------------------------------------------------------

    async def install_crds(self, documents: Sequence[Object]) -> None:
        """Applies CustomResourceDefinitions and waits until all are established."""
        missing = {served for document in documents for served in _list_served_versions(document)}
        async with self.connect() as api:
            await asyncio.gather(*(api.apply(document) for document in documents))

            async def discovered() -> bool:  # shows established ones only, and is small
                for version in {version for version, _ in missing}:
                    resources = (await api.request("GET", f"/apis/{version}"))["resources"]
                    missing.difference_update({(version, resource["name"]) for resource in resources})
                return not missing

            await self.wait_until("the CRDs are established", discovered)

    async def create_user(self, namespace: str, name: str, rules: Sequence[Object]) -> Path:
        """A kubeconfig for a service account that may do only what `rules` (of a Role in `namespace`) allow."""
        metadata = {"name": name, "namespace": namespace}
        subject = {"kind": "ServiceAccount", **metadata}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        rbac = "rbac.authorization.k8s.io/v1"
        async with self.connect() as api:
            await api.apply(
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
                {"apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": list(rules)},
                {
                    "apiVersion": rbac,
                    "kind": "RoleBinding",
                    "metadata": metadata,
                    "roleRef": role,
                    "subjects": [subject],
                },
            )
            token_request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
            path = SERVICE_ACCOUNTS.path(namespace, name) + "/token"
            token = (await api.request("POST", path, token_request))["status"]["token"]
        return self._write_kubeconfig(f"kubeconfig-{namespace}-{name}", token)

    # -- start -------------------------------------------------------------------------------------------------------

    async def _start_all(self) -> None:
        started_at = self._clock.now()
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        services = [WEBHOOK_SERVICE, VISIBILITY_SERVICE]
        write_pki(self.pki, services, datetime.fromtimestamp(self._clock.wall(), UTC))
        self._write_kubeconfig("kubeconfig", ADMIN_TOKEN)
        (self.folder / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"):
            await self.start_program(name)
            self.ready_after[name] = self._clock.now() - started_at
        await self._install_kueue()
        self.ready_after["kueue"] = self._clock.now() - started_at

    async def _stop_all(self) -> None:
        await self._processes.close()
        self._lease.release()

    async def _install_kueue(self) -> None:
        authority = (self.pki / "ca.crt").read_bytes()
        hooks = self._ports.webhooks_url
        async with self.connect() as api:
            await api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": KUEUE_NAMESPACE}})
            others = [
                self.manifests.kueue_secret(self.pki),
                *self.manifests.kueue_webhooks(hooks, authority),
                *self.manifests.kueue_visibility(self._ports.visibility),
            ]
            await asyncio.gather(
                self.install_crds(self.manifests.kueue_crds(hooks, authority)),
                *(api.apply(document) for document in others),
            )
        await self.start_program("kueue")

    def _program_command(self, name: str) -> ProgramCommand:
        ports = self._ports
        return {
            "etcd": lambda: components.etcd_command(ports),
            "kube-apiserver": lambda: components.api_server_command(ports),
            "kube-controller-manager": components.controller_manager_command,
            "kube-scheduler": components.scheduler_command,
            "kwok": lambda: components.kwok_command(ports, HERE / "stages.yaml"),
            "kueue": components.kueue_command,
        }[name]()

    def _readiness_probe(self, name: str) -> Callable[[], Awaitable[bool]] | None:
        """The readiness probe of a program; None for programs without a server."""
        return {
            "etcd": lambda: _is_answering(f"http://127.0.0.1:{self._ports.etcd}/health"),
            "kube-apiserver": self._is_api_ready,
            "kueue": lambda: _is_answering(f"http://127.0.0.1:{self._ports.health}/readyz"),
        }.get(name)

    async def _is_api_ready(self) -> bool:
        async with self.connect() as api:
            return bool(await api.request("GET", "/readyz") == "ok")

    def _write_kubeconfig(self, name: str, token: str) -> Path:
        cluster = {"server": self.url, "certificate-authority": str(self.pki / "ca.crt")}
        path = self.folder / name
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "plane",
                    "clusters": [{"name": "plane", "cluster": cluster}],
                    "users": [{"name": "user", "user": {"token": token}}],
                    "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": "user"}}],
                }
            )
        )
        return path


def _list_served_versions(crd: Object) -> Iterator[tuple[str, str]]:
    """Group and version, and the plural name, of every version that a CRD serves."""
    spec = crd["spec"]
    for version in spec["versions"]:
        if version["served"]:
            yield f"{spec['group']}/{version['name']}", spec["names"]["plural"]


async def _is_answering(url: str) -> bool:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http, http.get(url) as answer:
        return answer.status == 200
