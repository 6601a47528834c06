"""The reference transport: the same seam on grpc.aio (extra `grpcio`). Import only when it is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import Any

import grpc
import grpc.aio

from epp.clock import Clock
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import HandlerFactory, RpcHandler, RpcMethods
from epp.grpc.rpc_stats import OnRpcEnd, RpcStats
from epp.grpc.tls import ServerTlsContext
from epp.tasks import Tasks

log = logging.getLogger("epp.extproc.grpcio")

CANCELLATION_WAIT_SECONDS = 0.02

_GRPC_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioCall:
    """One RPC: what the handler sends waits here for the writing coroutine."""

    __slots__ = (
        "_max_queued_bytes",
        "_on_overflow",
        "_output_available",
        "handler",
        "outgoing_messages",
        "queued_bytes",
        "status",
        "status_message",
    )

    def __init__(self, limit: int, too_much: Callable[[], object]) -> None:
        """`too_much` is called when more than `limit` bytes wait for a peer that does not read."""
        self.outgoing_messages: deque[bytes] = deque()
        self.queued_bytes = 0
        self._max_queued_bytes = limit
        self._on_overflow = too_much
        self.status: int | None = None
        self.status_message = ""
        self.handler: RpcHandler | None = None
        self._output_available = asyncio.Event()

    def send(self, message: bytes) -> None:
        """See `Call`."""
        if self.status is None:
            self.outgoing_messages.append(message)
            self._output_available.set()
            self.queued_bytes += len(message)
            if self.queued_bytes > self._max_queued_bytes:
                self._on_overflow()

    @property
    def overflowed(self) -> bool:
        """The peer does not read."""
        return self.queued_bytes > self._max_queued_bytes

    def finish(self, status: int = 0, message: str = "") -> None:
        """See `Call`."""
        if self.status is None:
            self.status, self.status_message = status, message
            self.handler = None
            self._output_available.set()

    async def write_messages(self, context: Any) -> None:
        """Writes what the handler sends, until it has finished."""
        while self.outgoing_messages or self.status is None:
            while self.outgoing_messages:
                message = self.outgoing_messages.popleft()
                await context.write(message)
                self.queued_bytes -= len(message)
            if self.status is None:
                self._output_available.clear()
                await self._output_available.wait()

    async def read_messages(self, context: Any) -> None:
        """Hands on what the peer sends, until it half-closes."""
        while (message := await context.read()) is not grpc.aio.EOF:
            self._dispatch(message)
        # A reset looks like a half-close here; only the cancellation of this RPC, which follows, tells them apart.
        await asyncio.sleep(CANCELLATION_WAIT_SECONDS)
        self._dispatch(None)

    def _dispatch(self, message: bytes | None) -> None:
        """A message, or None for the half-close."""
        handler = self.handler
        if handler is None:
            return
        try:
            if message is None:
                handler.on_half_close()
            else:
                handler.on_message(message)
        except Exception:
            log.exception("handler failed")
            self.fail(grpc.StatusCode.INTERNAL.value[0], "internal error")

    def fail(self, status: int, reason: str) -> None:
        """Ends the RPC from the transport's side: the handler hears `lost`."""
        handler = self.handler
        self.finish(status, reason)
        if handler is not None:
            try:
                handler.on_cancel()
            except Exception:
                log.exception("handler failed on the loss of its RPC")


class GrpcioServer:
    """Serves `methods` through grpc.aio, with the surface of NativeServer."""

    def __init__(
        self, methods: RpcMethods, clock: Clock, limits: TransportLimits | None = None, on_end: OnRpcEnd | None = None
    ) -> None:
        """`on_end` hears of each RPC's end: method, grpc-status, clock reading of its beginning."""
        self.limits = limits or TransportLimits()
        self.rpc_stats = RpcStats(on_end)
        self._clock = clock
        self._methods = methods
        self._tasks = Tasks("grpcio")
        self._server: Any = None
        self._port = 0

    async def start(self, host: str, port: int, ssl: SSLContext | None = None) -> None:
        """Listens; port 0 lets the system choose. Raises OSError.

        grpc has a TLS of its own: of `ssl`, made by `tls`, it takes the certificate, now and as it changes.
        """
        options = [
            ("grpc.max_receive_message_length", self.limits.max_message_size),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", self.limits.max_header_list_size),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_RawBytesHandler(self._methods, self._serve_rpc),))
        address = f"{f'[{host}]' if ':' in host else host}:{port}"
        try:
            if ssl is None:
                self._port = self._server.add_insecure_port(address)
            else:
                self._port = self._server.add_secure_port(address, _server_credentials(ssl))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await self._server.start()

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    async def drain(self, grace: float) -> None:
        """Stops accepting, waits up to `grace` seconds for open RPCs, then closes."""
        if self._server is not None:
            await self._server.stop(grace)
        await self._tasks.close()

    async def close(self) -> None:
        """Ends everything now; handlers hear `lost`."""
        await self.drain(0)

    async def _serve_rpc(self, name: str, method: HandlerFactory, context: Any) -> None:
        started = self._clock.now()
        task = asyncio.current_task()
        assert task is not None, "an RPC is a task of grpc's"
        call = GrpcioCall(self.limits.max_connection_backlog, task.cancel)
        self.rpc_stats.record_start()
        reader: asyncio.Task[None] | None = None
        try:
            handler = method(call)
            if call.status is None:
                call.handler = handler
            reader = self._tasks.spawn(name, call.read_messages(context))
            await call.write_messages(context)
            context.set_code(_GRPC_STATUS_CODES.get(call.status or 0, grpc.StatusCode.UNKNOWN))
            context.set_details(call.status_message)
        except asyncio.CancelledError:
            if call.overflowed:
                call.fail(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "answers wait for a peer that does not read")
            raise
        except grpc.aio.InternalError:
            # The client went away while we wrote; grpc has no better word for it.
            call.fail(grpc.StatusCode.CANCELLED.value[0], "")
        except Exception:
            log.exception("RPC %s failed", name)
            call.fail(grpc.StatusCode.INTERNAL.value[0], "internal error")
            context.set_code(grpc.StatusCode.INTERNAL)
        finally:
            call.fail(grpc.StatusCode.CANCELLED.value[0], "")
            if reader is not None:
                reader.cancel()
            self.rpc_stats.record_end(name, call.status or 0, started)


class _RawBytesHandler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method as a bidirectional one of raw bytes: unary calls look the same on the wire."""

    def __init__(self, methods: RpcMethods, serve: Callable[[str, HandlerFactory, Any], Awaitable[None]]) -> None:
        self._methods = methods
        self._serve = serve

    def service(self, details: Any) -> Any:
        name = details.method
        method = self._methods.get(name)
        if method is None:
            return None
        serve = self._serve

        async def behavior(_requests: Any, context: Any) -> None:
            await serve(name, method, context)

        return grpc.stream_stream_rpc_method_handler(behavior)


def _server_credentials(context: SSLContext) -> Any:
    assert isinstance(context, ServerTlsContext), "a context without its PEM is of no use to grpc"

    def current() -> Any:
        return grpc.ssl_server_certificate_configuration([(context.private_key, context.certificate_chain)])

    return grpc.dynamic_ssl_server_credentials(current(), current)
