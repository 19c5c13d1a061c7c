"""Host and port of a URL."""

from __future__ import annotations

from microrpc.errors import PortError


def socket_address(port: str) -> tuple[str, int] | None:
    """Give host and port of "socket://HOST:PORT", None for every other port. Raises PortError where one is missing."""
    return address_in(port) if port.startswith("socket://") else None


def address_in(url: str) -> tuple[str, int]:
    """Give host and port of "SCHEME://HOST:PORT", after which options may follow. Raises PortError."""
    scheme, _, rest = url.partition("://")
    host, _, number = rest.partition("?")[0].rstrip("/").rpartition(":")
    if not host or not number.isascii() or not number.isdigit() or len(number) > 5:
        raise PortError(url, f"{url}: write {scheme}://HOST:PORT, for example {scheme}://localhost:9190")
    if not 0 < int(number) < 65536:  # the system takes some modulo 65536: that would be another server
        raise PortError(url, f"{url}: a TCP port is a number from 1 to 65535")
    return host.strip("[]"), int(number)
