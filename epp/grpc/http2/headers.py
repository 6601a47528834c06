"""Request headers: HPACK blocks read once, validated (RFC 9113, 8.2 and 8.3) and judged as gRPC requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from epp.grpc.framing import Status, refusal, reply_block
from epp.grpc.http2.frames import Code, ConnectionFault

# Blocks of one client differ little; more distinct ones than this are not worth keeping.
CACHED_BLOCKS = 64
CACHED_BLOCK_SIZE = 1024
HARD_FACTOR = 4
ENTRY_OVERHEAD = 32  # of a header field, RFC 7541, 4.1

_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED = frozenset((b":method", b":scheme", b":path"))
_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_UPPERCASE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

Fields = list[tuple[bytes, bytes]]


class Head(NamedTuple):
    """What of a request's headers matters here."""

    path: str
    gzip: bool = False
    malformed: str = ""
    """Why the stream is to be reset, empty for a sound request."""
    refused: bytes = b""
    """Header block of an answer that needs no handler."""


class HeaderReader:
    """Decodes the header blocks of one connection, in order.

    A block is remembered while the dynamic table stays as it was: it is remembered only if decoding it left the table
    unchanged, and everything is forgotten as soon as any block changes the table. So a remembered block would be
    decoded from the same table to the same fields, without effect on the table.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decoder = Decoder(max_header_list_size=HARD_FACTOR * limit)
        self._heads: dict[bytes, Head] = {}

    def head(self, block: bytes) -> Head:
        """The request that `block` opens."""
        found = self._heads.get(block)
        if found is None:
            changed, fields = self._decode(block)
            found = _judge(fields, self._limit)
            if not changed and len(block) <= CACHED_BLOCK_SIZE:
                if len(self._heads) >= CACHED_BLOCKS:
                    self._heads.clear()
                self._heads[block] = found
        return found

    def skip(self, block: bytes) -> Fields:
        """Decodes a block for its effect on the dynamic table; the fields are trailers, or of no interest."""
        return self._decode(block)[1]

    def _decode(self, block: bytes) -> tuple[bool, Fields]:
        table = self._decoder.header_table
        newest, length, bound = _newest(table), len(table.dynamic_entries), table.maxsize
        try:
            fields: Iterable[tuple[bytes, bytes]] = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "header list too large") from error
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "undecodable header block") from error
        # Entries are only put in front and only evicted from the back, and `newest` is kept alive here: the same object
        # in front, the same length and the same bound mean the same table.
        changed = _newest(table) is not newest or len(table.dynamic_entries) != length or table.maxsize != bound
        if changed:
            self._heads.clear()
        return changed, list(fields)


def _newest(table: HeaderTable) -> object:
    return table.dynamic_entries[0] if table.dynamic_entries else None


def _judge(fields: Fields, limit: int) -> Head:
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if name not in _PSEUDO or name in pseudo or regular:
                return Head("", malformed="pseudo-header fields")
            pseudo[name] = value
        elif not name or not _UPPERCASE.isdisjoint(name) or name in _HOP_BY_HOP:
            return Head("", malformed="header field name")
        elif name == b"te" and value.lower() != b"trailers":
            return Head("", malformed="te other than trailers")
        else:
            regular[name] = value
    if not pseudo.keys() >= _REQUIRED or not pseudo[b":path"]:
        return Head("", malformed="pseudo-header fields missing")
    size = sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in fields)
    if size > limit:
        return Head("", refused=reply_block(431))
    return _grpc(pseudo[b":method"], pseudo[b":path"], regular)


def _grpc(method: bytes, path: bytes, fields: dict[bytes, bytes]) -> Head:
    """A gRPC request, or the answer that refuses it (grpc/doc/PROTOCOL-HTTP2.md)."""
    if method != b"POST":
        return Head("", refused=reply_block(405, ((b"allow", b"POST"),)))
    kind = fields.get(b"content-type", b"").lower()
    if not kind.startswith(b"application/grpc") or kind[16:17] not in (b"", b"+", b";"):
        return Head("", refused=reply_block(415))
    name = path.decode("latin-1")
    encoding = fields.get(b"grpc-encoding", b"identity")
    if encoding not in (b"identity", b"gzip"):
        reason = f"grpc-encoding {encoding.decode('latin-1')} is not supported; use gzip or identity"
        accept = ((b"grpc-accept-encoding", b"identity,gzip"),)
        return Head(name, refused=refusal(Status.UNIMPLEMENTED, reason, accept))
    return Head(name, gzip=encoding == b"gzip")
