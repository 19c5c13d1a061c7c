"""A driver for labgrid, which gives a test or a script the board of a place: needs `pip install 'microrpc[labgrid]'`.

`microrpc.labgrid` is its name for users; docs/lab.md is its guide.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import attr
from labgrid.driver.common import Driver
from labgrid.exceptions import InvalidConfigError
from labgrid.factory import target_factory
from labgrid.resource import SerialPort
from labgrid.step import step
from labgrid.util.proxy import proxymanager

from microrpc.boards.catalogue import profile as load_named
from microrpc.capture.file import CaptureFile
from microrpc.client.board import Board
from microrpc.connecting.address import DEFAULT_PROFILE
from microrpc.connecting.blocking import Wrap, connect
from microrpc.errors import ProfileError
from microrpc.wire.description import FunctionDescription


def _optional(*kinds: type) -> Any:
    return attr.ib(default=None, validator=attr.validators.optional(attr.validators.instance_of(kinds)))


def _whether(default: bool) -> Any:
    return attr.ib(default=default, validator=attr.validators.instance_of(bool))


@target_factory.reg_driver  # type: ignore[untyped-decorator, unused-ignore]
@attr.s(eq=False)
class MicrorpcDriver(Driver):  # type: ignore[misc]  # labgrid has no types
    """Connects to the board on a `SerialPort` or a `NetworkSerialPort` (raw or RFC 2217) of a target.

    The keys of the environment's file: profile, the name of the board's; baud, in bits a second, where it is not the
    `speed` of the port; call_timeout_s, of one call; network_timeout_s, of RFC 2217; capture, the path of a file of
    what crosses the line, also where the driver is activated again; link, reset, release and reconnect as
    `microrpc.connect` has them.

    The connection is opened where the driver is activated, and closed where it is deactivated. Activating raises what
    `microrpc.connect` raises, and labgrid's InvalidConfigError for a profile or a protocol that there is not.
    """

    bindings = {"port": {"SerialPort", "NetworkSerialPort"}}  # noqa: RUF012 - as labgrid has them

    profile = _optional(str)
    baud = _optional(int)
    call_timeout_s = _optional(int, float)
    network_timeout_s = attr.ib(default=3.0, validator=attr.validators.instance_of((int, float)))
    capture = _optional(str)
    link = _whether(True)
    reset = _whether(False)
    release = _whether(False)
    reconnect = _whether(False)

    port: Any
    wrap: Wrap | None = None
    """As `microrpc.connect` has it; set it before the driver is activated."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._board: Board | None = None
        self._captured: CaptureFile | None = None
        try:
            self._known = load_named(self.profile or DEFAULT_PROFILE)
        except ProfileError as error:
            raise InvalidConfigError(f"MicrorpcDriver: profile: {error}") from error

    def on_activate(self) -> None:
        """Connect."""
        timeouts = self._known.timeouts
        if self.call_timeout_s is not None:
            timeouts = dataclasses.replace(timeouts, call_s=float(self.call_timeout_s))
        self._board = connect(
            self.url,
            board=self._known,
            baud=self.port.speed if self.baud is None else self.baud,
            timeouts=timeouts,
            link=self.link,
            reset=self.reset,
            release=self.release,
            reconnect=self.reconnect,
            capture=self._capture_file(),
            wrap=self.wrap,
        )

    def _capture_file(self) -> CaptureFile | None:
        """Give what all that this driver connects is captured to, from its first activation on."""
        if self.capture is not None and self._captured is None:
            self._captured = CaptureFile(self.capture)
            weakref.finalize(self, self._captured.close)
        return self._captured

    def on_deactivate(self) -> None:
        """Disconnect."""
        board, self._board = self._board, None
        if board is not None:
            board.close()

    @property
    def url(self) -> str:
        """What `microrpc.connect` and the commands of `microrpc` take as the port."""
        if isinstance(self.port, SerialPort):
            return str(self.port.port)
        host, number = proxymanager.get_host_and_port(self.port)
        place = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
        if self.port.protocol == "raw":
            return f"socket://{place}"
        if self.port.protocol == "rfc2217":
            return f"rfc2217://{place}?ign_set_control&timeout={self.network_timeout_s:g}"
        raise InvalidConfigError(f"MicrorpcDriver: the port's protocol is {self.port.protocol!r}, not raw or rfc2217")

    @property
    @Driver.check_active  # type: ignore[untyped-decorator, unused-ignore]
    def board(self) -> Board:
        """The board, connected."""
        assert self._board is not None
        return self._board

    @Driver.check_active  # type: ignore[untyped-decorator, unused-ignore]
    @step(args=["name"], result=True)  # type: ignore[untyped-decorator, unused-ignore]
    def call(self, name: str, *args: Any) -> Any:
        """Call a function of the board by its name; as `Board.call`. It is a step of labgrid's reports."""
        return self.board.function(name)(*args)

    @Driver.check_active  # type: ignore[untyped-decorator, unused-ignore]
    @step()  # type: ignore[untyped-decorator, unused-ignore]
    def functions(self) -> list[FunctionDescription]:
        """Give the functions that the board tells of; as `Board.functions`."""
        board: Board = self.board
        return board.functions()

    @Driver.check_bound  # type: ignore[untyped-decorator, unused-ignore]
    def get_export_vars(self) -> dict[str, str]:
        """Give what `labgrid-client export` hands to other programs: the port, and its speed."""
        return {"port": self.url, "baud": str(self.port.speed if self.baud is None else self.baud)}
