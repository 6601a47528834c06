"""The reference gRPC server: the same handlers on grpc.aio (extra `grpcio`). Imported only if it is selected."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import Any

import grpc
import grpc.aio

from epp.address import join_host_port
from epp.clock import Clock
from epp.grpc.framing import StatusCode
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import HandlerFactory, RpcHandler, RpcMethods
from epp.grpc.rpc_stats import OnRpcEnd, RpcStats
from epp.grpc.tls import ServerTlsContext
from epp.tasks import Tasks

log = logging.getLogger("epp.grpc.grpcio")

CANCELLATION_WAIT_SECONDS = 0.02

_GRPC_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioCall:
    """One RPC, the handler's `ServerCall`: messages wait here for the coroutine that writes them to grpc."""

    __slots__ = (
        "_max_queued_bytes", "_on_overflow", "_output_available", "handler", "outgoing_messages", "queued_bytes",
        "status", "status_message",
    )  # fmt: skip

    def __init__(self, max_queued_bytes: int, on_overflow: Callable[[], object]) -> None:
        """`on_overflow` is called when more than `max_queued_bytes` wait for a client that does not read."""
        self.outgoing_messages: deque[bytes] = deque()
        self.queued_bytes = 0
        self._max_queued_bytes = max_queued_bytes
        self._on_overflow = on_overflow
        self.status: int | None = None
        self.status_message = ""
        self.handler: RpcHandler | None = None
        self._output_available = asyncio.Event()

    def send(self, message: bytes) -> None:
        """See `ServerCall`."""
        if self.status is None:
            self.outgoing_messages.append(message)
            self._output_available.set()
            self.queued_bytes += len(message)
            if self.overflowed:
                self._on_overflow()

    @property
    def overflowed(self) -> bool:
        """The client leaves more output unread than it may."""
        return self.queued_bytes > self._max_queued_bytes

    def finish(self, status: int = 0, message: str = "") -> None:
        """See `ServerCall`."""
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
        """Passes request messages to the handler until the client half-closes."""
        while (message := await context.read()) is not grpc.aio.EOF:
            self._dispatch(message)
        # grpc.aio reports a reset as end of input too, and cancels this task shortly after: wait for that.
        await asyncio.sleep(CANCELLATION_WAIT_SECONDS)
        self._dispatch(None)

    def _dispatch(self, message: bytes | None) -> None:
        """Calls the handler with a message, or with the half-close for None."""
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
            self.fail(StatusCode.INTERNAL, "internal error")

    def fail(self, status: StatusCode, reason: str) -> None:
        """Ends the RPC with an error of the transport: the handler gets `on_cancel`."""
        handler = self.handler
        self.finish(status, reason)
        if handler is not None:
            try:
                handler.on_cancel()
            except Exception:
                log.exception("handler failed on the cancellation of its RPC")


class GrpcioServer:
    """Serves RPC methods through grpc.aio; same interface as `GrpcServer`."""

    def __init__(
        self,
        methods: RpcMethods,
        clock: Clock,
        limits: TransportLimits | None = None,
        on_rpc_end: OnRpcEnd | None = None,
    ) -> None:
        self.limits = limits or TransportLimits()
        self.rpc_stats = RpcStats(on_rpc_end)
        self._clock = clock
        self._methods = methods
        self._tasks = Tasks("grpcio")
        self._server: Any = None
        self._port = 0

    async def start(self, host: str, port: int, ssl: SSLContext | None = None) -> None:
        """Starts to listen; port 0 lets the system choose. Raises OSError.

        grpc has its own TLS implementation: `ssl`, a `ServerTlsContext`, only provides the certificate, for each
        handshake the current one.
        """
        options = [
            ("grpc.max_receive_message_length", self.limits.max_message_size),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", self.limits.max_header_list_size),
            ("grpc.so_reuseport", 0),  # on by default; then a second server on the port would start, and share it
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_RawBytesHandler(self._methods, self._serve_rpc),))
        address = join_host_port(host, port)
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
        """Stops accepting connections, waits up to `grace` seconds for open RPCs, then closes."""
        if self._server is not None:
            await self._server.stop(grace)
        await self._tasks.close()

    async def close(self) -> None:
        """Cancels all RPCs and closes all connections."""
        await self.drain(0)

    async def _serve_rpc(self, method: str, create_handler: HandlerFactory, context: Any) -> None:
        started_at = self._clock.now()
        task = asyncio.current_task()
        assert task is not None, "grpc.aio runs each RPC in a task"
        call = GrpcioCall(self.limits.max_connection_backlog, task.cancel)
        self.rpc_stats.record_start()
        reader: asyncio.Task[None] | None = None
        try:
            handler = create_handler(call)
            if call.status is None:
                call.handler = handler
            reader = self._tasks.spawn(method, call.read_messages(context))
            await call.write_messages(context)
            context.set_code(_GRPC_STATUS_CODES.get(call.status or 0, grpc.StatusCode.UNKNOWN))
            context.set_details(call.status_message)
        except asyncio.CancelledError:
            if call.overflowed:
                call.fail(StatusCode.RESOURCE_EXHAUSTED, "too much output that the client does not read")
            raise
        except grpc.aio.InternalError:
            # What grpc.aio raises from a write to a client that is gone.
            call.fail(StatusCode.CANCELLED, "")
        except Exception:
            log.exception("RPC %s failed", method)
            call.fail(StatusCode.INTERNAL, "internal error")
            context.set_code(grpc.StatusCode.INTERNAL)
        finally:
            call.fail(StatusCode.CANCELLED, "")
            if reader is not None:
                reader.cancel()
            self.rpc_stats.record_end(method, call.status or 0, started_at)


class _RawBytesHandler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves every method as bidirectional streaming of serialized messages; on the wire unary ones look the same."""

    def __init__(self, methods: RpcMethods, serve_rpc: Callable[[str, HandlerFactory, Any], Awaitable[None]]) -> None:
        self._methods = methods
        self._serve_rpc = serve_rpc

    def service(self, details: Any) -> Any:
        method = details.method
        create_handler = self._methods.get(method)
        if create_handler is None:
            return None
        serve_rpc = self._serve_rpc

        async def behavior(_requests: Any, context: Any) -> None:
            await serve_rpc(method, create_handler, context)

        return grpc.stream_stream_rpc_method_handler(behavior)


def _server_credentials(context: SSLContext) -> Any:
    assert isinstance(context, ServerTlsContext), "grpc needs the certificate as PEM, which only ServerTlsContext keeps"

    def fetch_configuration() -> Any:
        return grpc.ssl_server_certificate_configuration([(context.private_key, context.certificate_chain)])

    return grpc.dynamic_ssl_server_credentials(fetch_configuration(), fetch_configuration)
