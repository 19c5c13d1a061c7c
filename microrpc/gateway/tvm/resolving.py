"""Looking up the name of a host where the end of the program must not wait for the answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

Addresses = list[str]
"""Of one host, in the order in which they are to be tried."""


class Resolver:
    """Looks up where `host` is. A name server may take minutes, and nothing can stop what asks it.

    So a thread of its own asks, one at a time, which the end of the program does not wait for, as it does for those
    of an event loop.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._asking: asyncio.Future[Addresses] | None = None

    async def resolve(self) -> Addresses:
        """Give the addresses of the host. Raises OSError where it is not known, UnicodeError for what is no name."""
        asking = self._asking
        if asking is None:
            loop = asyncio.get_running_loop()
            asking = self._asking = loop.create_future()
            threading.Thread(target=self._ask, args=(loop, asking), daemon=True, name=f"resolve {self._host}").start()
        found = await asyncio.shield(asking)  # cancelled, it goes on, and is what the next one waits for
        self._asking = None
        return found

    def _ask(self, loop: asyncio.AbstractEventLoop, asking: asyncio.Future[Addresses]) -> None:
        found: Addresses | OSError | UnicodeError
        try:
            entries = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(address[0]) for *_, address in entries))
        except (OSError, UnicodeError) as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._answer, asking, found)

    def _answer(self, asking: asyncio.Future[Addresses], found: Addresses | OSError | UnicodeError) -> None:
        if isinstance(found, list):
            asking.set_result(found)
        else:
            self._asking = None
            asking.set_exception(found)
            asking.exception()  # perhaps nobody waits for it any more
