"""A worker's words: of the pod that runs or ran last, and on into the next one after a preemption."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from epp_batch.controller.unit_status import UnitObjects
from epp_batch.errors import ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.errors import Invalid, NotFound
from epp_batch.kube.objects import Job, Pod
from epp_batch.kube.resources import JOB_NAME_LABEL, JOBS, PODS

POLL_SECONDS = 1.0


async def stream_unit_log(
    client: ApiClient, namespace: str, unit: str, say: Callable[[str], None], *, follow: bool, tail: int | None = None
) -> None:
    """Hands the log's lines to `say`; with `follow` until the unit's Job has ended.

    Raises ClusterError where there is no such Job, or no pod of it whose log could be read.
    """
    shown: set[str] = set()
    while True:
        job, pod = await _get_job(client, namespace, unit), await _newest_pod(client, namespace, unit)
        fresh = pod is not None and pod.metadata.name not in shown
        if pod is not None and fresh and await _stream_pod_log(client, namespace, pod, say, follow=follow, tail=tail):
            shown.add(pod.metadata.name)
        if not follow or job is None or (job.is_finished and not fresh):
            break
        if not fresh:
            await asyncio.sleep(POLL_SECONDS)
    if not shown:
        remedy = "give --follow to wait for one" if job is not None else "see `epp-batch status`"
        raise ClusterError(f"{unit}: {'no log yet' if job is not None else 'no such Job'}", remedy=remedy)


async def _stream_pod_log(
    client: ApiClient, namespace: str, pod: Pod, say: Callable[[str], None], *, follow: bool, tail: int | None
) -> bool:
    """False while its container has not started."""
    query = {"container": "worker"} | ({"follow": "true"} if follow else {})
    query |= {"tailLines": str(tail)} if tail is not None else {}
    try:
        async for line in client.stream_lines(PODS.path(namespace, pod.metadata.name, "log"), **query):
            say(line.decode(errors="replace"))
    except (Invalid, NotFound):
        return False
    return True


async def _get_job(client: ApiClient, namespace: str, unit: str) -> Job | None:
    try:
        return msgspec.convert(await client.get(JOBS.path(namespace, unit)), Job)
    except NotFound:
        return None


async def _newest_pod(client: ApiClient, namespace: str, unit: str) -> Pod | None:
    found = await client.list_raw(PODS.path(namespace), selector=f"{JOB_NAME_LABEL}={unit}")
    return UnitObjects(pods=tuple(msgspec.json.decode(item, type=Pod) for item in found.items)).newest_pod
