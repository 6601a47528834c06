"""A real Kubernetes control plane on 127.0.0.1: etcd, API server, controllers, scheduler, Kueue and KWOK.

    async with Plane(folder, cache, SystemClock()) as plane, plane.api() as api:
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
from tests.kube.cluster.client import SERVICE_ACCOUNTS, Api, ApiError, Object
from tests.kube.cluster.components import ADMIN_TOKEN, Ports
from tests.kube.cluster.manifests import KUEUE_NAMESPACE, VISIBILITY_SERVICE, WEBHOOK_SERVICE, Manifests
from tests.kube.cluster.processes import Command, PortLease, Processes

HERE = Path(__file__).resolve().parent
_POLL = 0.05  # seconds between two looks
T = TypeVar("T")


class NotYet(Exception):
    """Raised by what `until` asks: not ready; what was seen goes into the timeout's message."""


class Plane:
    """The control plane; an asynchronous context manager, but bound to no event loop."""

    def __init__(self, folder: Path, cache: Path, clock: Clock, *, kueue: Mapping[str, Any] | None = None) -> None:
        """`folder` takes data, logs and certificates; `cache` holds what `make kube-tools` built.

        `kueue` overlays Kueue's configuration file (waitForPodsReady, resources.transformations, …).
        """
        self.folder = folder.resolve()
        self.manifests = Manifests(cache)
        self.marks: dict[str, float] = {}  # what was ready how many seconds after the start
        self._clock = clock
        self._lease = PortLease(len(Ports._fields))
        self._ports = Ports(*self._lease.ports)
        self._processes = Processes(cache / "bin", self.folder)
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
        return self._ports.server

    @property
    def kueue_metrics(self) -> str:
        """The URL of Kueue's Prometheus page."""
        return f"https://127.0.0.1:{self._ports.metrics}/metrics"

    def api(self) -> Api:
        """A connection of the administrator's, to be entered with `async with`."""
        return Api(self.kubeconfig)

    def memory(self) -> dict[str, int]:
        """Resident MiB of each program."""
        return self._processes.memory()

    def pids(self) -> dict[str, int]:
        """Process ids of the programs that were started, by name."""
        return self._processes.pids()

    def log(self, name: str) -> Path:
        """The log file of one program."""
        return self._processes.log(name)

    # -- life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._up()
        except BaseException:
            await self._down()
            raise
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._down()

    async def stop(self, name: str) -> None:
        """Stops one program: `await plane.stop("kube-apiserver")` is an outage. Data and ports stay."""
        await self._processes.stop(name)

    async def start(self, name: str) -> None:
        """Starts one program that was stopped, and waits until it serves."""
        if name == "kueue":
            configuration = components.kueue_configuration(self._ports, self._kueue)
            (self.folder / "kueue.yaml").write_text(yaml.safe_dump(configuration))
        self._processes.start(self._command(name))
        if probe := self._probe(name):
            await self.until(f"{name} serves", probe)

    async def restart(self, name: str, kueue: Mapping[str, Any] | None = None) -> None:
        """Stops and starts one program; `kueue` replaces what overlays Kueue's configuration."""
        await self.stop(name)
        if kueue is not None:
            self._kueue = dict(kueue)
        await self.start(name)

    @asynccontextmanager
    async def kueue_configured(self, **changes: Any) -> AsyncIterator[None]:
        """Kueue runs with other settings meanwhile; its file is read once, so this restarts it twice (2 s each)."""
        before = self._kueue
        await self.restart("kueue", {**before, **changes})
        try:
            yield
        finally:
            await self.restart("kueue", before)

    async def until(self, what: str, ready: Callable[[], Awaitable[T | None]], limit: float = 60.0) -> T:
        """Looks until `ready` returns something true, and returns it.

        NotYet, refusals and lost connections are no end of it. TimeoutError after `limit` seconds names `what` and
        what was seen last; ProcessDied as soon as a program of the plane has ended.
        """
        end = self._clock.now() + limit
        last: object = None
        while True:
            self._processes.check()
            try:
                last = await ready()
                if last:
                    return last
            except (NotYet, ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                last = repr(error)
            if self._clock.now() > end:
                raise TimeoutError(f"not within {limit:g} s: {what}; last seen: {str(last)[:2000]}")
            await asyncio.sleep(_POLL)

    # -- contents ----------------------------------------------------------------------------------------------

    async def install_crds(self, documents: Sequence[Object]) -> None:
        """Applies CustomResourceDefinitions and waits until all are established."""
        wanted = {place for document in documents for place in _served(document)}
        async with self.api() as api:
            await asyncio.gather(*(api.apply(document) for document in documents))

            async def discovered() -> bool:  # shows established ones only, and is small
                for version in {version for version, _ in wanted}:
                    resources = (await api.request("GET", f"/apis/{version}"))["resources"]
                    wanted.difference_update({(version, resource["name"]) for resource in resources})
                return not wanted

            await self.until("the CRDs are established", discovered)

    async def user(self, namespace: str, name: str, rules: Sequence[Object]) -> Path:
        """A kubeconfig for a service account that may do only what `rules` (of a Role in `namespace`) allow."""
        place = {"name": name, "namespace": namespace}
        subject = {"kind": "ServiceAccount", **place}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        rbac = "rbac.authorization.k8s.io/v1"
        async with self.api() as api:
            await api.apply(
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place},
                {"apiVersion": rbac, "kind": "Role", "metadata": place, "rules": list(rules)},
                {"apiVersion": rbac, "kind": "RoleBinding", "metadata": place, "roleRef": role, "subjects": [subject]},
            )
            asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
            path = SERVICE_ACCOUNTS.path(namespace, name) + "/token"
            token = (await api.request("POST", path, asked))["status"]["token"]
        return self._write_kubeconfig(f"kubeconfig-{namespace}-{name}", token)

    # -- start -------------------------------------------------------------------------------------------------

    async def _up(self) -> None:
        begun = self._clock.now()
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        services = [WEBHOOK_SERVICE, VISIBILITY_SERVICE]
        write_pki(self.pki, services, datetime.fromtimestamp(self._clock.wall(), UTC))
        self._write_kubeconfig("kubeconfig", ADMIN_TOKEN)
        (self.folder / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"):
            await self.start(name)
            self.marks[name] = self._clock.now() - begun
        await self._install_kueue()
        self.marks["kueue"] = self._clock.now() - begun

    async def _down(self) -> None:
        await self._processes.close()
        self._lease.release()

    async def _install_kueue(self) -> None:
        authority = (self.pki / "ca.crt").read_bytes()
        hooks = self._ports.hooks
        async with self.api() as api:
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
        await self.start("kueue")

    def _command(self, name: str) -> Command:
        ports = self._ports
        return {
            "etcd": lambda: components.etcd(ports),
            "kube-apiserver": lambda: components.api_server(ports),
            "kube-controller-manager": components.controller_manager,
            "kube-scheduler": components.scheduler,
            "kwok": lambda: components.kwok(ports, HERE / "stages.yaml"),
            "kueue": components.kueue,
        }[name]()

    def _probe(self, name: str) -> Callable[[], Awaitable[bool]] | None:
        """What tells that a program serves; None for those that serve nothing."""
        return {
            "etcd": lambda: _answers(f"http://127.0.0.1:{self._ports.etcd}/health"),
            "kube-apiserver": self._api_ready,
            "kueue": lambda: _answers(f"http://127.0.0.1:{self._ports.health}/readyz"),
        }.get(name)

    async def _api_ready(self) -> bool:
        async with self.api() as api:
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


def _served(crd: Object) -> Iterator[tuple[str, str]]:
    """Group and version, and the plural name, of every version that a CRD serves."""
    spec = crd["spec"]
    for version in spec["versions"]:
        if version["served"]:
            yield f"{spec['group']}/{version['name']}", spec["names"]["plural"]


async def _answers(url: str) -> bool:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http, http.get(url) as answer:
        return answer.status == 200
