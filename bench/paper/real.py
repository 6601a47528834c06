"""Plays the arms on a real control plane in compressed time.

API server, scheduler, Job controller and Kueue are real; nodes are KWOK's, which let every pod run for its job's
duration divided by the scale. Slices are DRA claims that the scheduler allocates from ResourceSlices with partitionable
devices, as NVIDIA's driver publishes them; whole GPUs are an extended resource. All arms run side by side, each on a
node of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench.paper import jobs
from bench.paper.arms import MIG_SLICES, ArmResult
from epp.clock import Clock, SystemClock
from epp.tasks import Tasks
from epp_batch.manifests import queues
from epp_batch.planner import PlannedJob
from epp_batch.timeline import EventKind, TimelineEvent
from tests.kube.cluster.client import NODES, PODS, WORKLOADS, KubeApi
from tests.kube.cluster.mig import A100_40, build_claim_template, publish_gpus
from tests.kube.cluster.objects import build_container, build_job, build_kwok_node, condition_reason, has_condition
from tests.kube.cluster.plane import ControlPlane
from tests.kube.tools.build import build_tools, cache_folder, is_built

ARM_TIMEOUT = 1200.0
"""Real seconds for one arm."""
KUEUE_SUBMIT_INTERVAL = 1.05
"""Real seconds between two Jobs: Kueue orders by creation in whole seconds, and by UID within one."""


class RealArm:
    """Plays one arm: creates its node, queues and Jobs, and records events from watches."""

    def __init__(self, plane: ControlPlane, api: KubeApi, clock: Clock, arm_result: ArmResult, scale: float) -> None:
        self.plane, self.api, self.clock, self.arm_result, self.scale = plane, api, clock, arm_result, scale
        self.name = "".join(letter for letter in arm_result.arm.name.lower() if letter.isalnum())
        self.uses_claims = arm_result.arm.accelerators is MIG_SLICES
        self.events: list[TimelineEvent] = []
        self._recorded: set[tuple[str, str, EventKind]] = set()
        self._attempts: dict[str, int] = {}
        self._started_at = 0.0

    async def run(self) -> list[TimelineEvent]:
        """Runs all 32 Jobs to their ends; the events have uncompressed times, like those of a simulation."""
        await self._create_objects()
        self._started_at = self.clock.now()
        tasks = Tasks(self.name)
        for kind, handle in ((PODS, self._on_pod), (WORKLOADS, self._on_workload)):
            tasks.supervise(kind.plural, partial(self._watch_objects, kind, handle))
        try:
            await self._submit_jobs()
            await self.plane.wait_until(f"{self.name} has finished", self._all_finished, ARM_TIMEOUT)
        finally:
            await tasks.close()
        return self.events

    async def _create_objects(self) -> None:
        await self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}})
        devices = {} if self.uses_claims else {"nvidia.com/gpu": 8}
        node = await self.api.create(build_kwok_node(f"{self.name}-node", devices, {"arm": self.name}))
        if self.uses_claims:
            await publish_gpus(self.api, node["metadata"]["name"], node["metadata"]["uid"], (A100_40,) * 8)
            for profile in sorted({planned.accelerator.mig_profile for planned in self.arm_result.order}):
                await self.api.create(build_claim_template(_claim_name(profile), self.name, profile))
        elif self.arm_result.uses_kueue:
            await self._create_queues()

    async def _create_queues(self) -> None:
        """Creates the preset's queues under names of this arm, since all arms share one cluster."""
        setup = queues.build_preset(self.arm_result.arm.preset, self.name, 8)
        renamed = msgspec.structs.replace(
            setup,
            flavor=self.name,
            node_labels={"arm": self.name},
            cohort=setup.cohort and f"{self.name}-{setup.cohort}",
            queues=tuple(msgspec.structs.replace(queue, name=f"{self.name}-{queue.name}") for queue in setup.queues),
        )
        await self.api.apply(*queues.build_kueue_objects(renamed))
        path = "/apis/kueue.x-k8s.io/v1beta2/clusterqueues/"

        async def active() -> bool:
            cluster_queues = [await self.api.request("GET", f"{path}{queue.name}") for queue in renamed.queues]
            return all(has_condition(cluster_queue, "Active") for cluster_queue in cluster_queues)

        await self.plane.wait_until(f"queues of {self.name}", active)

    async def _submit_jobs(self) -> None:
        """Creates the Jobs in the arm's order, one per second of the paper's time; slower where Kueue orders them."""
        interval = KUEUE_SUBMIT_INTERVAL if self.arm_result.uses_kueue else jobs.SUBMIT_INTERVAL / self.scale
        for number, planned in enumerate(self.arm_result.order):
            due = self._started_at + number * interval
            await asyncio.sleep(max(0.0, due - self.clock.now()))
            await self.api.create(self._build_job(planned))
            self._record_event(planned.unit, "created")

    def _build_job(self, planned: PlannedJob) -> dict[str, Any]:
        runs_for = f"{round(1000 * planned.duration_seconds / self.scale)}ms"
        pod: dict[str, Any] = {"nodeSelector": {"arm": self.name}}
        main = build_container(devices=planned.requests)
        if self.uses_claims:
            main = {**build_container(), "resources": {"claims": [{"name": "gpu"}]}}
            claim = {"name": "gpu", "resourceClaimTemplateName": _claim_name(planned.accelerator.mig_profile)}
            pod["resourceClaims"] = [claim]
        queue = planned.local_queue if self.arm_result.uses_kueue else ""
        priority = "high-priority" if planned.priority else ""
        return build_job(planned.unit, self.name, main, queue=queue, priority=priority, runs_for=runs_for, pod=pod)

    async def _all_finished(self) -> bool:
        return sum(event.kind == "finished" for event in self.events) == len(self.arm_result.order)

    async def _watch_objects(self, kind: Any, handle: Callable[[dict[str, Any]], None]) -> None:
        async for change, document in self.api.watch(kind, self.name):
            if change in {"ADDED", "MODIFIED"}:
                handle(document)

    def _on_pod(self, pod: dict[str, Any]) -> None:
        kinds: dict[str, EventKind] = {"Running": "running", "Succeeded": "finished"}
        kind = kinds.get(pod.get("status", {}).get("phase", ""))
        if kind is not None:
            self._record_once(
                pod["metadata"]["labels"]["job-name"], pod["metadata"]["uid"], kind, pod["spec"]["nodeName"]
            )

    def _on_workload(self, workload: dict[str, Any]) -> None:
        unit = workload["metadata"]["ownerReferences"][0]["name"]
        for condition, kind in (("QuotaReserved", "admitted"), ("Preempted", "evicted")):
            for entry in workload.get("status", {}).get("conditions") or ():
                if entry["type"] == condition and entry["status"] == "True":
                    detail = "Preempted" if condition_reason(workload, "Preempted") and kind == "evicted" else ""
                    self._record_once(unit, entry["lastTransitionTime"], kind, detail=detail)  # type: ignore[arg-type]

    def _record_once(self, unit: str, mark: str, kind: EventKind, place: str = "", detail: str = "") -> None:
        if (unit, mark, kind) not in self._recorded:
            self._recorded.add((unit, mark, kind))
            self._record_event(unit, kind, place, detail)

    def _record_event(self, unit: str, kind: EventKind, place: str = "", detail: str = "") -> None:
        self._attempts[unit] = self._attempts.get(unit, 0) + (kind == "running")
        at = (self.clock.now() - self._started_at) * self.scale
        self.events.append(
            TimelineEvent(at=at, unit=unit, kind=kind, place=place, detail=detail, attempt=self._attempts[unit])
        )


def _claim_name(profile: str) -> str:
    return profile.replace(".", "")


async def run_arms(
    arms: Sequence[ArmResult], scale: float, log: Callable[[str], None]
) -> dict[str, list[TimelineEvent]]:
    """Plays all arms at once on a control plane of their own; events by arm."""
    cache = cache_folder(os.environ)
    if not is_built(cache):
        build_tools(cache, os.environ, log)
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="paper-") as folder:
        async with ControlPlane(Path(folder), cache, clock) as plane, plane.connect() as api:
            log(f"the control plane is up; {len(arms)} arms at {scale:g} times the speed")
            running = [RealArm(plane, api, clock, arm_result, scale) for arm_result in arms]
            events = await asyncio.gather(*(arm.run() for arm in running))
            for arm in running:
                await api.delete(NODES, f"{arm.name}-node")
    return {arm.arm_result.arm.name: arm_events for arm, arm_events in zip(running, events, strict=True)}


def print_stderr(line: str) -> None:
    """Prints a line of progress."""
    print(line, file=sys.stderr, flush=True)
