"""A pty in the place of a serial port: any program opens it as one, this one has the other end."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from microrpc.errors import PortError, reason_of


class HeldPty:
    """A pty in raw mode. Programs may open `path` and close it again: it stays, since it is held open here, too.

    link: a symbolic link to make to it, so that its path is the same each time; it replaces an older link, and is
    removed at the end. no_ptys: what to do instead where none can be had, for the error.

    Raises PortError where something that is no link is in its place, and where the system has no ptys, or none left.
    """

    def __init__(self, link: str | os.PathLike[str] | None = None, *, no_ptys: str = "") -> None:
        self.link = Path(link) if link is not None else None
        """The link, where one was asked for."""
        if not hasattr(os, "openpty"):
            raise PortError(str(link or ""), f"this system has no ptys{no_ptys}")
        import termios
        import tty

        self._termios = termios
        try:
            self.fd, self._held = os.openpty()
        except OSError as error:
            raise PortError(str(link or ""), f"no pty can be had ({reason_of(error)}){no_ptys}") from error
        tty.setraw(self._held)
        os.set_blocking(self.fd, False)
        self._known_speed = self._speed()
        self.name = os.ttyname(self._held)
        """The pty itself."""
        try:
            self._make_link()
        except PortError:
            self.close()
            raise

    @property
    def path(self) -> str:
        """What a program opens: the link where there is one, else the pty."""
        return str(self.link or self.name)

    @property
    def baud(self) -> int | None:
        """The speed that a program has set, in bits a second; it means nothing. None for one that has no name."""
        return self._bauds().get(self._speed())

    def has_other_baud(self) -> bool:
        """Whether another speed was set since this was last asked."""
        before, self._known_speed = self._known_speed, self._speed()
        return before != self._known_speed

    def _speed(self) -> int:
        speed: int = self._termios.tcgetattr(self._held)[5]
        return speed

    def _bauds(self) -> dict[int, int]:
        names = (name for name in vars(self._termios) if name[:1] == "B" and name[1:].isdigit())
        return {getattr(self._termios, name): int(name[1:]) for name in names}

    def close(self) -> None:
        """Remove the link and the pty; a program that has it open sees it go. Closing twice is fine."""
        self._remove_link()
        for fd in (self.fd, self._held):
            if fd >= 0:
                os.close(fd)
        self.fd = self._held = -1

    def _make_link(self) -> None:
        if self.link is None:
            return
        if os.path.lexists(self.link) and not self.link.is_symlink():
            raise PortError(str(self.link), f"{self.link} exists and is no link: choose another path")
        fresh = self.link.with_name(f".{self.link.name}.{os.getpid()}")
        try:
            fresh.symlink_to(self.name)
            fresh.replace(self.link)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise PortError(str(self.link), f"cannot make the link {self.link}: {error.strerror}") from error

    def _remove_link(self) -> None:
        if self.link is not None:
            with contextlib.suppress(OSError):
                if os.readlink(self.link) == self.name:
                    self.link.unlink()
