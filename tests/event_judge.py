"""What a board said by itself, boot by boot, against what the host was given: lost, doubled, out of order, wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Boot:
    """What a board said since it booted: the values of its reliable events, and of its plain ones by their number."""

    reliable: list[Any] = field(default_factory=list)
    plain: list[Any] = field(default_factory=list)
    reliable_came: list[tuple[int, Any]] = field(default_factory=list)
    plain_came: list[tuple[int, Any]] = field(default_factory=list)
    missed: int = 0
    is_heard: bool = False
    """Whether the host has been told anything of it."""


class Judge:
    """Takes what is said, and what comes. Values tell the boot that they are of: `said_in` gives it by the values."""

    def __init__(self) -> None:
        self.boots = [Boot()]
        self.said_in: dict[Any, int] = {}
        self.wrong: list[str] = []
        self._ids: dict[int, int] = {}  # which boot an id of the wire is

    @property
    def now(self) -> Boot:
        """The boot that is going on."""
        return self.boots[-1]

    def on_reset(self) -> None:
        """Take note of a reset."""
        self.boots.append(Boot())

    def expect(self, values: Any) -> None:
        """Take note that an event with such values may come, before it is known what became of it."""
        self.said_in[values] = len(self.boots) - 1

    def say(self, values: Any, *, reliable: bool, accepted: bool = True) -> None:
        """Take note of an event; a plain one counts whether it was sent or not, a reliable one if it was accepted."""
        if reliable and not accepted:
            return
        (self.now.reliable if reliable else self.now.plain).append(values)
        self.expect(values)

    def hear(self, event: Any) -> None:
        """Take an event, or a gap."""
        if event.is_gap:
            at = self._ids.get(event.boot, len(self.boots) - 1)
        elif event.values in self.said_in:
            at = self.said_in[event.values]
        else:
            self.wrong.append(f"nobody said {event}")
            return
        self._ids.setdefault(event.boot, at)
        boot = self.boots[at]
        boot.is_heard = True
        if event.reliable:
            if event.missed:
                self.wrong.append(f"a reliable one is said to be lost: {event}")
            boot.reliable_came.append((event.number, event.values))
            return
        boot.missed += event.missed
        if not event.is_gap:
            boot.plain_came.append((event.number, event.values))

    def verdict(self) -> Counter[str]:
        """Count what must be 0: lost, doubled, out of order, wrong, and how far gaps told are from gaps made.

        At a reset a board forgets what it has kept, and what it has said last nobody can know.
        """
        found: Counter[str] = Counter(wrong=len(self.wrong))
        for boot in self.boots:
            is_over = boot is not self.boots[-1]
            came = [values for _, values in boot.reliable_came]
            found["doubled"] += sum(count - 1 for count in Counter(came).values())
            found["out of order"] += [number for number, _ in boot.reliable_came] != sorted(
                number for number, _ in boot.reliable_came
            )
            found["wrong"] += sum(
                boot.reliable[number : number + 1] != [values] for number, values in boot.reliable_came
            )
            lost = len(boot.reliable) - len(set(came))
            if is_over:  # only what is behind the last one that came
                lost = max((number + 1 for number, _ in boot.reliable_came), default=0) - len(set(came))
            found["lost"] += lost
            numbers = [number for number, _ in boot.plain_came]
            found["doubled"] += len(numbers) - len(set(numbers))
            found["out of order"] += numbers != sorted(numbers)
            found["wrong"] += sum(boot.plain[number : number + 1] != [values] for number, values in boot.plain_came)
            told, made = len(set(numbers)) + boot.missed, len(boot.plain)
            if is_over:
                found["gaps not told"] += told < max((number + 1 for number in numbers), default=0) or told > made
            else:
                found["gaps not told"] += abs(made - told)
        return +found
