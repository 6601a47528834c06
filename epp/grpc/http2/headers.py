"""Request headers: HPACK decoding, validation (RFC 9113, 8.2 and 8.3), and the checks that gRPC prescribes."""

from __future__ import annotations

from typing import NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from epp.grpc.framing import StatusCode, encode_http_response, encode_trailers_only
from epp.grpc.http2.frames import ErrorCode, Http2ConnectionError
from epp.grpc.limits import TransportLimits

# Bounds of the cache of decoded header blocks; the requests of one client differ in few header values, or in none.
MAX_CACHED_BLOCKS = 64
MAX_CACHED_BLOCK_SIZE = 1024
FIELD_OVERHEAD = 32  # octets that each field adds to the size of a header list (RFC 7541, 4.1)

_PSEUDO_HEADERS = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED_PSEUDO_HEADERS = frozenset((b":method", b":scheme", b":path"))
# RFC 9113, 8.2.2
_CONNECTION_SPECIFIC = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_UPPERCASE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

HeaderFields = list[tuple[bytes, bytes]]


class RpcHeaders(NamedTuple):
    """What the transport needs of a request's headers. At most one of `malformed` and `rejection` is not empty."""

    path: str
    gzip: bool = False
    malformed: str = ""
    """Why the request is malformed (RFC 9113, 8.1.1): its stream is reset."""
    rejection: bytes = b""
    """Header block of a response that ends the stream without a handler."""


class HeaderDecoder:
    """Decodes the header blocks of one connection; every block must pass through here, in order of arrival.

    Results are cached by the encoded block. That is correct only while the dynamic table (RFC 7541, 2.3.2) stays the
    same: a block is cached if decoding it left the table unchanged, and any change of the table empties the cache. A
    cached block would therefore be decoded from the same table to the same fields, without effect on the table.
    """

    __slots__ = ("_cache", "_decoder", "_max_header_list_size")

    def __init__(self, limits: TransportLimits) -> None:
        self._max_header_list_size = limits.max_header_list_size
        self._decoder = Decoder(max_header_list_size=limits.max_header_block_size)
        self._cache: dict[bytes, RpcHeaders] = {}

    def decode_request(self, block: bytes) -> RpcHeaders:
        """The request headers in `block`. Raises Http2ConnectionError if it cannot be decoded."""
        headers = self._cache.get(block)
        if headers is None:
            table_changed, fields = self._decode(block)
            headers = parse_request_headers(fields, self._max_header_list_size)
            if not table_changed and len(block) <= MAX_CACHED_BLOCK_SIZE:
                if len(self._cache) >= MAX_CACHED_BLOCKS:
                    self._cache.clear()
                self._cache[block] = headers
        return headers

    def decode_trailers(self, block: bytes) -> HeaderFields:
        """The fields of any other block; it has to be decoded even if they are ignored, to keep the HPACK state."""
        return self._decode(block)[1]

    def _decode(self, block: bytes) -> tuple[bool, HeaderFields]:
        """Whether the dynamic table changed, and the decoded fields."""
        table = self._decoder.header_table
        newest, length, max_size = _newest_entry(table), len(table.dynamic_entries), table.maxsize
        try:
            fields: HeaderFields = list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "header list too large") from error
        except (HPACKError, IndexError, ValueError) as error:
            raise Http2ConnectionError(ErrorCode.COMPRESSION_ERROR, "header block cannot be decoded") from error
        # Entries are added at the front and evicted at the back only, and `newest` stays referenced here: with the same
        # object at the front, the same length and the same maximum size the table is the same.
        changed = (
            _newest_entry(table) is not newest or len(table.dynamic_entries) != length or table.maxsize != max_size
        )
        if changed:
            self._cache.clear()
        return changed, fields


def _newest_entry(table: HeaderTable) -> object:
    return table.dynamic_entries[0] if table.dynamic_entries else None


def parse_request_headers(fields: HeaderFields, max_header_list_size: int) -> RpcHeaders:
    """Validates decoded request fields as HTTP (RFC 9113, 8.2.2 and 8.3.1), then as a gRPC request.

    Of the characters that section 8.2.1 prohibits only upper-case letters in names are checked: no field is forwarded,
    and the values that are used (`:path`, `grpc-encoding`) are sent back percent-encoded only.
    """
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            # Known, once, and before all regular fields (section 8.3).
            if name not in _PSEUDO_HEADERS or name in pseudo or regular:
                return RpcHeaders("", malformed="pseudo-header fields")
            pseudo[name] = value
        elif not name or not _UPPERCASE.isdisjoint(name) or name in _CONNECTION_SPECIFIC:
            return RpcHeaders("", malformed="header field name")
        elif name == b"te" and value.lower() != b"trailers":  # section 8.2.2
            return RpcHeaders("", malformed="te other than trailers")
        else:
            regular[name] = value
    if not pseudo.keys() >= _REQUIRED_PSEUDO_HEADERS or not pseudo[b":path"]:
        return RpcHeaders("", malformed="pseudo-header fields missing")
    size = sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields)
    if size > max_header_list_size:
        return RpcHeaders("", rejection=encode_http_response(431))  # section 10.5.1
    return _parse_grpc_request(pseudo[b":method"], pseudo[b":path"], regular)


def _parse_grpc_request(method: bytes, path: bytes, fields: dict[bytes, bytes]) -> RpcHeaders:
    """A gRPC request, or the response that rejects it (gRPC's PROTOCOL-HTTP2.md, "Requests")."""
    if method != b"POST":
        # Method Not Allowed has an Allow field (RFC 9110, 15.5.6).
        return RpcHeaders("", rejection=encode_http_response(405, ((b"allow", b"POST"),)))
    # "application/grpc" and its "+proto"; "application/grpc-web" is another protocol.
    content_type = fields.get(b"content-type", b"").lower()
    if not content_type.startswith(b"application/grpc") or content_type[16:17] not in (b"", b"+", b";"):
        return RpcHeaders("", rejection=encode_http_response(415))
    name = path.decode("latin-1")
    encoding = fields.get(b"grpc-encoding", b"identity")
    if encoding not in (b"identity", b"gzip"):
        # gRPC's compression.md: UNIMPLEMENTED, with the encodings that the server accepts.
        reason = f"grpc-encoding {encoding.decode('latin-1')} is not supported; use gzip or identity"
        accepted = ((b"grpc-accept-encoding", b"identity,gzip"),)
        return RpcHeaders(name, rejection=encode_trailers_only(StatusCode.UNIMPLEMENTED, reason, accepted))
    return RpcHeaders(name, gzip=encoding == b"gzip")
