"""The log of one unit's worker: of the running or last pod, and with `follow` of its successors after a preemption."""

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
from epp_batch.manifests.jobs import CONTAINER_NAME

POLL_SECONDS = 1.0


async def stream_unit_log(
    client: ApiClient,
    namespace: str,
    unit: str,
    on_line: Callable[[str], None],
    *,
    follow: bool,
    tail: int | None = None,
) -> None:
    """Calls `on_line` for each line of the log; with `follow` until the unit's Job has ended.

    Each pod is streamed once. Raises ClusterError if there is no such Job, or no pod of it with a log.
    """
    streamed: set[str] = set()
    while True:
        job, pod = await _get_job(client, namespace, unit), await _newest_pod(client, namespace, unit)
        new_pod = pod is not None and pod.metadata.name not in streamed
        if pod is not None and new_pod and await _stream_pod_log(client, namespace, pod, on_line, follow, tail):
            streamed.add(pod.metadata.name)
        if not follow or job is None or (job.is_finished and not new_pod):
            break
        if not new_pod:
            await asyncio.sleep(POLL_SECONDS)
    if not streamed and job is None:
        raise ClusterError(f"{unit}: no such Job", remedy="see `epp-batch status`")
    if not streamed:
        raise ClusterError(f"{unit}: no log yet", remedy="use --follow to wait for it")


async def _stream_pod_log(
    client: ApiClient, namespace: str, pod: Pod, on_line: Callable[[str], None], follow: bool, tail: int | None
) -> bool:
    """Returns False if the pod's container has not started (400) or the pod was deleted."""
    query = {"container": CONTAINER_NAME} | ({"follow": "true"} if follow else {})
    query |= {"tailLines": str(tail)} if tail is not None else {}
    try:
        async for line in client.stream_lines(PODS.path(namespace, pod.metadata.name, "log"), **query):
            on_line(line.decode(errors="replace"))
    except (Invalid, NotFound):
        return False
    return True


async def _get_job(client: ApiClient, namespace: str, unit: str) -> Job | None:
    try:
        return msgspec.convert(await client.get(JOBS.path(namespace, unit)), Job)
    except NotFound:
        return None


async def _newest_pod(client: ApiClient, namespace: str, unit: str) -> Pod | None:
    listing = await client.list_raw(PODS.path(namespace), selector=f"{JOB_NAME_LABEL}={unit}")
    return UnitObjects(pods=tuple(msgspec.json.decode(item, type=Pod) for item in listing.items)).newest_pod
