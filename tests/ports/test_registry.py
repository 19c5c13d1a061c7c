"""What this process has open, by the port's own name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from microrpc.ports import registry
from microrpc.ports.fd import FdChannel
from microrpc.ports.registry import collect_dropped, is_open_here

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes that can be polled")


@contextmanager
def opened(*names: str | Path) -> Iterator[list[FdChannel]]:
    pipes = [os.pipe() for _ in names]
    channels = [FdChannel(str(name), reader) for name, (reader, _) in zip(names, pipes, strict=True)]
    try:
        yield channels
    finally:
        for channel, (_, writer) in zip(channels, pipes, strict=True):
            channel.close()
            os.close(writer)


def test_a_port_is_open_here_by_each_of_its_names_until_it_is_closed(tmp_path: Path) -> None:
    port, link = tmp_path / "ttyUSB0", tmp_path / "board"
    port.touch()
    link.symlink_to(port)
    with opened(link) as (channel,):
        assert is_open_here(str(port))
        assert is_open_here(str(link))
        assert not is_open_here(str(tmp_path / "ttyUSB1"))
        channel.close()
        assert not is_open_here(str(port))


def test_what_was_opened_counts_and_not_where_a_link_leads_now(tmp_path: Path) -> None:
    """A board that comes back may have another number, and udev's link then leads to that."""
    ports, link = [tmp_path / "ttyACM0", tmp_path / "ttyACM1"], tmp_path / "board"
    link.symlink_to(ports[0])
    with opened(link):
        link.unlink()
        link.symlink_to(ports[1])
        assert is_open_here(str(ports[0]))
        assert not is_open_here(str(link))


def test_a_url_is_the_same_in_every_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("socket://127.0.0.1:3001"):
        monkeypatch.chdir(tmp_path)
        assert is_open_here("socket://127.0.0.1:3001")


@pytest.mark.parametrize(
    ("port", "collects"), [("sim://", False), ("unix:///tmp/board.sock", False), ("socket://127.0.0.1:3001", True)]
)
def test_garbage_is_collected_only_for_a_port_that_it_may_keep_busy(
    monkeypatch: pytest.MonkeyPatch, port: str, collects: bool
) -> None:
    collections: list[str] = []
    monkeypatch.setattr(registry.gc, "collect", lambda: collections.append(port))
    with opened(port):
        collect_dropped(port)
    assert collections == [port] * collects


def test_to_look_for_a_port_costs_no_more_system_calls_where_many_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    realpath = os.path.realpath

    def count(path: str) -> str:
        looks.append(path)
        return realpath(path)

    with opened(*(tmp_path / f"tty{number}" for number in range(100))):
        monkeypatch.setattr(registry.os.path, "realpath", count)
        assert is_open_here(str(tmp_path / "tty50"))
        assert not is_open_here(str(tmp_path / "other"))
    assert len(looks) == 2
