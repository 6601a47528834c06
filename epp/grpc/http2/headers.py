"""Request headers: HPACK blocks read once, validated (RFC 9113, 8.2 and 8.3) and judged as gRPC requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from epp.grpc.framing import StatusCode, encode_http_response, encode_trailers_only
from epp.grpc.http2.frames import ErrorCode, Http2ConnectionError

# Blocks of one client differ little; more distinct ones than this are not worth keeping.
MAX_CACHED_BLOCKS = 64
MAX_CACHED_BLOCK_SIZE = 1024
HARD_LIMIT_FACTOR = 4
FIELD_OVERHEAD = 32  # of a header field, RFC 7541, 4.1

_PSEUDO_HEADERS = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED_PSEUDO_HEADERS = frozenset((b":method", b":scheme", b":path"))
_CONNECTION_SPECIFIC = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_UPPERCASE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

HeaderFields = list[tuple[bytes, bytes]]


class RpcHeaders(NamedTuple):
    """What of a request's headers matters here."""

    path: str
    gzip: bool = False
    malformed: str = ""
    """Why the stream is to be reset, empty for a sound request."""
    rejection: bytes = b""
    """Header block of an answer that needs no handler."""


class HeaderDecoder:
    """Decodes the header blocks of one connection, in order.

    A block is remembered while the dynamic table stays as it was: it is remembered only if decoding it left the table
    unchanged, and everything is forgotten as soon as any block changes the table. So a remembered block would be
    decoded from the same table to the same fields, without effect on the table.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decoder = Decoder(max_header_list_size=HARD_LIMIT_FACTOR * limit)
        self._cache: dict[bytes, RpcHeaders] = {}

    def decode_request(self, block: bytes) -> RpcHeaders:
        """The request that `block` opens."""
        found = self._cache.get(block)
        if found is None:
            changed, fields = self._decode(block)
            found = parse_request_headers(fields, self._limit)
            if not changed and len(block) <= MAX_CACHED_BLOCK_SIZE:
                if len(self._cache) >= MAX_CACHED_BLOCKS:
                    self._cache.clear()
                self._cache[block] = found
        return found

    def decode_trailers(self, block: bytes) -> HeaderFields:
        """Decodes a block for its effect on the dynamic table; the fields are trailers, or of no interest."""
        return self._decode(block)[1]

    def _decode(self, block: bytes) -> tuple[bool, HeaderFields]:
        table = self._decoder.header_table
        newest, length, bound = _newest_entry(table), len(table.dynamic_entries), table.maxsize
        try:
            fields: Iterable[tuple[bytes, bytes]] = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "header list too large") from error
        except (HPACKError, IndexError, ValueError) as error:
            raise Http2ConnectionError(ErrorCode.COMPRESSION_ERROR, "undecodable header block") from error
        # Entries are only put in front and only evicted from the back, and `newest` is kept alive here: the same object
        # in front, the same length and the same bound mean the same table.
        changed = _newest_entry(table) is not newest or len(table.dynamic_entries) != length or table.maxsize != bound
        if changed:
            self._cache.clear()
        return changed, list(fields)


def _newest_entry(table: HeaderTable) -> object:
    return table.dynamic_entries[0] if table.dynamic_entries else None


def parse_request_headers(fields: HeaderFields, limit: int) -> RpcHeaders:
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if name not in _PSEUDO_HEADERS or name in pseudo or regular:
                return RpcHeaders("", malformed="pseudo-header fields")
            pseudo[name] = value
        elif not name or not _UPPERCASE.isdisjoint(name) or name in _CONNECTION_SPECIFIC:
            return RpcHeaders("", malformed="header field name")
        elif name == b"te" and value.lower() != b"trailers":
            return RpcHeaders("", malformed="te other than trailers")
        else:
            regular[name] = value
    if not pseudo.keys() >= _REQUIRED_PSEUDO_HEADERS or not pseudo[b":path"]:
        return RpcHeaders("", malformed="pseudo-header fields missing")
    size = sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields)
    if size > limit:
        return RpcHeaders("", rejection=encode_http_response(431))
    return _parse_grpc_request(pseudo[b":method"], pseudo[b":path"], regular)


def _parse_grpc_request(method: bytes, path: bytes, fields: dict[bytes, bytes]) -> RpcHeaders:
    """A gRPC request, or the answer that refuses it (grpc/doc/PROTOCOL-HTTP2.md)."""
    if method != b"POST":
        return RpcHeaders("", rejection=encode_http_response(405, ((b"allow", b"POST"),)))
    kind = fields.get(b"content-type", b"").lower()
    if not kind.startswith(b"application/grpc") or kind[16:17] not in (b"", b"+", b";"):
        return RpcHeaders("", rejection=encode_http_response(415))
    name = path.decode("latin-1")
    encoding = fields.get(b"grpc-encoding", b"identity")
    if encoding not in (b"identity", b"gzip"):
        reason = f"grpc-encoding {encoding.decode('latin-1')} is not supported; use gzip or identity"
        accept = ((b"grpc-accept-encoding", b"identity,gzip"),)
        return RpcHeaders(name, rejection=encode_trailers_only(StatusCode.UNIMPLEMENTED, reason, accept))
    return RpcHeaders(name, gzip=encoding == b"gzip")
