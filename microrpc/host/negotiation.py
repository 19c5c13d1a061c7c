"""What is asked of a board once an epoch: whether it knows the link, and what besides (docs/link.md 1, 7)."""

from __future__ import annotations

from microrpc.errors import OutcomeUnknownError
from microrpc.host.carriers.frames import FrameCarrier
from microrpc.host.line import Line
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.trust import Trust
from microrpc.wire.features import Features
from microrpc.wire.link import LinkParameters
from microrpc.wire.names import FEATURES_FUNCTION, LINK_FUNCTION
from microrpc.wire.packets import PacketCode, Syscall, encode_packet, handle_of
from microrpc.wire.session import Timeouts

ATTEMPTS = 6
"""How often each question is asked: more than other look-ups, since all that comes after it is safe from damage."""

_LEAST_LOOK_UP_S = 0.5  # for the question whether there is a link, which nothing repeats yet
_NOTHING = Features()


class Negotiation:
    """Asks over frames. `asks`: whether anything is asked at all; `parameters`: of the link, None without one."""

    def __init__(self, frames: FrameCarrier, line: Line, trust: Trust, timeouts: Timeouts, *, asks: bool) -> None:
        self.asks = asks
        self.parameters: LinkParameters | None = None
        self._frames = frames
        self._line = line
        self._trust = trust
        self._timeout_s = max(timeouts.retry_s, _LEAST_LOOK_UP_S)
        self._features = _NOTHING
        self._link_epoch = self._features_epoch = -1

    @property
    def is_due(self) -> bool:
        """Whether there is a question that was not answered in this epoch."""
        return self.asks and self._features_epoch != self._trust.epoch

    @property
    def question(self) -> str:
        """The name that is looked up next; empty where nothing is."""
        if not self.is_due:
            return ""
        return FEATURES_FUNCTION if self._link_epoch == self._trust.epoch else LINK_FUNCTION

    @property
    def features(self) -> Features:
        """What the board knows besides; nothing before it was asked in this epoch."""
        return self._features if self._features_epoch == self._trust.epoch else _NOTHING

    def ask(self, now: float) -> Operation[float]:
        """Ask the next question, once; give the time. Where it was answered, `question` is another then."""
        epoch, question = self._trust.epoch, self.question
        now, handle = yield from self._look_up(question, now)
        if handle is None:
            return now
        if question == LINK_FUNCTION:
            self.parameters, self._link_epoch = LinkParameters.from_handle(handle), epoch
        if question == FEATURES_FUNCTION or self.parameters is None:
            self._features = Features.from_handle(handle) if question == FEATURES_FUNCTION else _NOTHING
            self._features_epoch = epoch
        return now

    def _look_up(self, name: str, now: float) -> Operation[tuple[float, int | None]]:
        """Look up what is told as a handle: 0 where the board does not know the name, None where it did not answer."""
        request = Syscall(PacketCode.GET_GLOBAL_FUNC, (name,))
        handle: int | None = None
        try:
            reply = yield from self._frames.exchange(request, encode_packet(request), now, self._timeout_s)
        except OutcomeUnknownError:
            pass  # which is doubt enough for another session
        else:
            handle = handle_of(reply)
        data, now = yield AT_ONCE
        if data:
            self._line.receive(data, now)
        return now, handle
