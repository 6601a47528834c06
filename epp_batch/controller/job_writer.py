"""Every write to the API server that a run needs: Jobs, their claim templates, activity of Workloads and queues.

The only module that creates, deletes or patches them, for `ActionExecutor` (the driver) and for `submit`, `cancel`,
`pause` and `resume`. `epp-batch queues --apply` creates and patches Kueue's own objects, which belong to no run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Literal

from epp_batch.controller.unit_status import PAUSED_ANNOTATION
from epp_batch.errors import ClusterError
from epp_batch.kube.client import ApiClient, KubeObject
from epp_batch.kube.errors import Conflict, Invalid, NotFound
from epp_batch.kube.objects import Job
from epp_batch.kube.resources import JOBS, RESOURCE_CLAIM_TEMPLATES, KueueResources
from epp_batch.manifests import jobs
from epp_batch.manifests.jobs import RUN_LABEL
from epp_batch.spec import Run, Unit

MAX_CONCURRENT_WRITES = 16
DELETION_POLL_SECONDS = 0.2
DELETION_TIMEOUT_SECONDS = 60.0
StopPolicy = Literal["None", "Hold", "HoldAndDrain"]


class JobWriter:
    """Writes to one namespace. Every method may be repeated; each raises ClusterError or a subclass."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client, self._namespace = client, namespace

    async def create_claim_templates(self, run: Run) -> None:
        """Creates the ResourceClaimTemplates that the run's Jobs refer to, unless they exist."""
        for template in jobs.build_claim_templates(run):
            try:
                await self._client.create(RESOURCE_CLAIM_TEMPLATES.path(self._namespace), template)
            except Conflict:
                continue

    async def create_job(self, unit: Unit, run: Run) -> KubeObject:
        """Creates the unit's Job and returns it. A Job of this run that exists already is returned as it is.

        Raises Invalid if the name belongs to a Job of another run.
        """
        try:
            return await self._client.create(JOBS.path(self._namespace), jobs.build_job(unit, run))
        except Conflict:
            existing = await self._client.get(JOBS.path(self._namespace, unit.name))
            if existing["metadata"].get("labels", {}).get(RUN_LABEL) != run.name:
                remedy = "give this run another name with --run"
                raise Invalid(f"Job {unit.name} exists and belongs to another run", remedy=remedy) from None
            return existing

    async def validate_job(self, unit: Unit, run: Run) -> None:
        """Lets the API server check the unit's Job (schema, rights, admission webhooks) without storing it.

        Raises what a creation would raise; a Job that exists already is valid.
        """
        try:
            body = jobs.build_job(unit, run)
            await self._client.create(JOBS.path(self._namespace), body, dryRun="All", fieldValidation="Strict")
        except Conflict:
            return

    async def delete_job(self, name: str, uid: str) -> None:
        """Deletes the Job with this uid, and in the background its pods; no error if it does not exist any more."""
        try:
            await self._client.delete(JOBS.path(self._namespace, name), uid=uid)
        except Conflict:
            return  # the uid precondition failed: a newer Job has this name

    async def delete_jobs(self, to_delete: Iterable[Job], *, wait: bool = False) -> None:
        """Deletes Jobs, MAX_CONCURRENT_WRITES at a time; with `wait` until their names are free."""
        slots = asyncio.Semaphore(MAX_CONCURRENT_WRITES)

        async def delete(job: Job) -> None:
            async with slots:
                await self.delete_job(job.metadata.name, job.metadata.uid)
                if wait:
                    await self._wait_until_deleted(job)

        await asyncio.gather(*map(delete, to_delete))

    async def set_workload_active(self, kueue: KueueResources, workload: str, *, active: bool) -> None:
        """Sets `spec.active` of a Workload, and PAUSED_ANNOTATION on an inactive one. No error if it does not exist.

        Kueue takes an inactive Workload out of its queue, and evicts it if it has quota.
        """
        annotation = None if active else "true"
        body = {"metadata": {"annotations": {PAUSED_ANNOTATION: annotation}}, "spec": {"active": active}}
        try:
            await self._client.patch(kueue.workloads.path(self._namespace, workload), body)
        except NotFound:
            return

    async def set_queue_stop_policy(self, kueue: KueueResources, local_queue: str, policy: StopPolicy) -> None:
        """Sets `spec.stopPolicy` of a LocalQueue, which holds or releases the workloads of all its users."""
        await self._client.patch(
            kueue.local_queues.path(self._namespace, local_queue), {"spec": {"stopPolicy": policy}}
        )

    async def _wait_until_deleted(self, job: Job) -> None:
        path = JOBS.path(self._namespace, job.metadata.name)
        for _ in range(round(DELETION_TIMEOUT_SECONDS / DELETION_POLL_SECONDS)):
            try:
                if (await self._client.get(path))["metadata"]["uid"] != job.metadata.uid:
                    return
            except NotFound:
                return
            await asyncio.sleep(DELETION_POLL_SECONDS)
        remedy = "see which finalizer holds it, then submit again"
        raise ClusterError(f"{path} is still being deleted after {DELETION_TIMEOUT_SECONDS:g} s", remedy=remedy)
