"""The same jobs on a real control plane, time compressed: API server, scheduler, Job controller, Kueue; KWOK's nodes.

Every pod runs for its job's length divided by the scale, played by KWOK. Slices are DRA claims that the real scheduler
allocates from ResourceSlices with partitionable devices, as NVIDIA's driver publishes them; whole GPUs are counted.
All arms run side by side, each on a node of its own.
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
from tests.kube.cluster.client import NODES, PODS, WORKLOADS, Api
from tests.kube.cluster.mig import A100_40, claim_template, publish
from tests.kube.cluster.objects import container, holds, job, kwok_node, reason
from tests.kube.cluster.plane import Plane
from tests.kube.tools.build import build, built, cache_folder

ARM_TIMEOUT = 1200.0
"""Real seconds for one arm."""
KUEUE_SUBMIT_INTERVAL = 1.05
"""Real seconds between two Jobs for Kueue: it orders by creation in whole seconds, and within one by chance (UID)."""


class RealArm:
    """One arm: its node, its queues, what happens to its Jobs."""

    def __init__(self, plane: Plane, api: Api, clock: Clock, found: ArmResult, scale: float) -> None:
        self.plane, self.api, self.clock, self.arm_result, self.scale = plane, api, clock, found, scale
        self.name = "".join(letter for letter in found.arm.name.lower() if letter.isalnum())
        self.uses_claims = found.arm.accelerators is MIG_SLICES
        self.events: list[TimelineEvent] = []
        self._recorded: set[tuple[str, str, EventKind]] = set()
        self._attempts: dict[str, int] = {}
        self._started_at = 0.0

    async def run(self) -> list[TimelineEvent]:
        """All 32 Jobs to their ends; events in compressed time stretched again, so in seconds like the model's."""
        await self._create_objects()
        self._started_at = self.clock.now()
        tasks = Tasks(self.name)
        for kind, note in ((PODS, self._on_pod), (WORKLOADS, self._on_workload)):
            tasks.supervise(kind.plural, partial(self._watch_objects, kind, note))
        try:
            await self._submit_jobs()
            await self.plane.until(f"{self.name} is through", self._all_finished, ARM_TIMEOUT)
        finally:
            await tasks.close()
        return self.events

    async def _create_objects(self) -> None:
        await self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}})
        devices = {} if self.uses_claims else {"nvidia.com/gpu": 8}
        node = await self.api.create(kwok_node(f"{self.name}-node", devices, {"arm": self.name}))
        if self.uses_claims:
            await publish(self.api, node["metadata"]["name"], node["metadata"]["uid"], (A100_40,) * 8)
            for profile in sorted({demand.accelerator.mig_profile for demand in self.arm_result.order}):
                await self.api.create(claim_template(_claim_name(profile), self.name, profile))
        elif self.arm_result.uses_kueue:
            await self._create_queues()

    async def _create_queues(self) -> None:
        """The preset's, under names of their own: all arms share one cluster."""
        settings = queues.build_preset(self.arm_result.arm.preset, self.name, 8)
        mine = msgspec.structs.replace(
            settings,
            flavor=self.name,
            node_labels={"arm": self.name},
            cohort=settings.cohort and f"{self.name}-{settings.cohort}",
            queues=tuple(msgspec.structs.replace(one, name=f"{self.name}-{one.name}") for one in settings.queues),
        )
        await self.api.apply(*queues.build_kueue_objects(mine))
        path = "/apis/kueue.x-k8s.io/v1beta2/clusterqueues/"

        async def active() -> bool:
            read = [await self.api.request("GET", f"{path}{one.name}") for one in mine.queues]
            return all(holds(one, "Active") for one in read)

        await self.plane.until(f"queues of {self.name}", active)

    async def _submit_jobs(self) -> None:
        """In the arm's order, one job a second of the paper's time, but no faster than Kueue can tell them apart."""
        gap = KUEUE_SUBMIT_INTERVAL if self.arm_result.uses_kueue else jobs.SUBMIT_INTERVAL / self.scale
        for number, demand in enumerate(self.arm_result.order):
            due = self._started_at + number * gap
            await asyncio.sleep(max(0.0, due - self.clock.now()))
            await self.api.create(self._build_job(demand))
            self._record_event(demand.unit, "created")

    def _build_job(self, demand: PlannedJob) -> dict[str, Any]:
        runs_for = f"{round(1000 * demand.duration_seconds / self.scale)}ms"
        pod: dict[str, Any] = {"nodeSelector": {"arm": self.name}}
        main = container(devices=demand.requests)
        if self.uses_claims:
            main = {**container(), "resources": {"claims": [{"name": "gpu"}]}}
            claim = {"name": "gpu", "resourceClaimTemplateName": _claim_name(demand.accelerator.mig_profile)}
            pod["resourceClaims"] = [claim]
        queue = demand.local_queue if self.arm_result.uses_kueue else ""
        priority = "high-priority" if demand.priority else ""
        return job(demand.unit, self.name, main, queue=queue, priority=priority, runs_for=runs_for, pod=pod)

    async def _all_finished(self) -> bool:
        return sum(event.kind == "finished" for event in self.events) == len(self.arm_result.order)

    async def _watch_objects(self, kind: Any, note: Callable[[dict[str, Any]], None]) -> None:
        async for what, document in self.api.watch(kind, self.name):
            if what in {"ADDED", "MODIFIED"}:
                note(document)

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
                    detail = "Preempted" if reason(workload, "Preempted") and kind == "evicted" else ""
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
    arms: Sequence[ArmResult], scale: float, say: Callable[[str], None]
) -> dict[str, list[TimelineEvent]]:
    """Starts the control plane, plays all arms on it at once, and stops it."""
    cache = cache_folder(os.environ)
    if not built(cache):
        build(cache, os.environ, say)
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="paper-") as folder:
        async with Plane(Path(folder), cache, clock) as plane, plane.api() as api:
            say(f"the control plane is up; {len(arms)} arms at {scale:g} times the speed")
            running = [RealArm(plane, api, clock, found, scale) for found in arms]
            events = await asyncio.gather(*(arm.run() for arm in running))
            for arm in running:
                await api.delete(NODES, f"{arm.name}-node")
    return {arm.arm_result.arm.name: found for arm, found in zip(running, events, strict=True)}


def print_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
