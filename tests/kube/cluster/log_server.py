"""The kubelet's log endpoint, so that `kubectl logs` and the API server's log sub-resource work."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from tests.kube.cluster.pod_run import PodRun

_POLL = 0.1  # seconds between two reads of a log that is followed


class LogServer:
    """HTTPS on 127.0.0.1; the port is the node's kubelet port."""

    def __init__(self, find_pod: Callable[[str, str], PodRun | None], pki: Path) -> None:
        """`find_pod` returns the pod of a namespace and name; `pki` holds tls.crt and tls.key."""
        self._find_pod = find_pod
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(pki / "tls.crt", pki / "tls.key")
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Starts to serve; returns the port."""
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._serve_logs)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stops serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve_logs(self, request: web.Request) -> web.StreamResponse:
        run = self._find_pod(request.match_info["namespace"], request.match_info["pod"])
        container = None if run is None else run.find_container(request.match_info["container"])
        if run is None or container is None:
            return web.Response(status=404, text="this node has no such container")
        path = container.log_path(previous=request.query.get("previous") == "true")
        if not path.exists():
            return web.Response(status=400, text=f"container {container.name} has no such log yet")
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        position = _find_tail_offset(path, request.query.get("tailLines"))
        left = int(request.query.get("limitBytes", sys.maxsize))
        follow = request.query.get("follow") == "true"
        while left > 0:
            is_last = run.has_ended or not follow  # read before the log, so that what was written until then is sent
            data = _read_from(path, position)[:left]
            if data:
                await answer.write(data)
                position, left = position + len(data), left - len(data)
            elif is_last:
                break
            else:
                await asyncio.sleep(_POLL)
        return answer


def _read_from(path: Path, position: int) -> bytes:
    with path.open("rb") as file:
        file.seek(position)
        return file.read(1 << 20)


def _find_tail_offset(path: Path, lines: str | None) -> int:
    """Offset of the last `lines` lines; 0 for all."""
    if lines is None:
        return 0
    data = path.read_bytes()
    tail = data.splitlines(keepends=True)[-int(lines) :] if int(lines) else []
    return len(data) - sum(map(len, tail))
