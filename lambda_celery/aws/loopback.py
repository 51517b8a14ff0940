"""Addresses of this machine: what answers there is no AWS."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}


def loopback_port(url: str) -> int | None:
    """Return the port of *url*, if that is on this machine, over HTTP."""
    parts = urlsplit(url)
    return parts.port if parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS else None
