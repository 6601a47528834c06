"""`host:port` as it is written everywhere: IPv6 in brackets."""

from __future__ import annotations


def join_host_port(host: str, port: int) -> str:
    """One host, an address or a name, and its port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
