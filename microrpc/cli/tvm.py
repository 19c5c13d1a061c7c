"""`microrpc tvm`: boards for TVM's clients, its tracker and its tuner."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from microrpc.cli import completing
from microrpc.cli.addresses import is_loopback, parse_address, warn_of_others
from microrpc.cli.capturing import capture
from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonOption,
    TimeoutOption,
    examples,
    find_board_port,
    is_terminal,
    print_json,
    reporting,
    timeouts_of,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.signals import finish_at_signal
from microrpc.cli.streams import note, note_log, say
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.connecting.address import Target
    from microrpc.gateway.tvm.server import Gateway
    from microrpc.gateway.tvm.session import Loader
    from microrpc.gateway.tvm.station import Station

_LAST_PORT = 65535
_LISTEN = "127.0.0.1:9090"  # where TVM's own servers begin to look for a free port

tvm = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Today's TVM on boards: its models, its clients, its tuner.\n\n(docs/tvm.md)",
    epilog=examples(
        "microrpc tvm build model.onnx --board qemu_mps2_an385 --out my_model",
        "microrpc tvm serve /dev/ttyACM0",
        "microrpc tvm serve sim:// sim:// --tracker 127.0.0.1:9190",
    ),
)


@tvm.command(
    epilog=examples(
        "microrpc tvm serve sim://",
        "microrpc tvm serve /dev/ttyACM0 --board nucleo_f746zg --key nucleo",
        "microrpc tvm serve qemu://mps2_an385 sim:// --key m3 --key simulated",
        "microrpc tvm serve --board nucleo_f746zg --tracker 127.0.0.1:9190",
    )
)
@with_port_options
def serve(
    ports: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PORT",
            autocompletion=completing.ports,
            show_default=False,
            help="Each board's port; none: where --board is.",
        ),
    ] = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="[HOST:]PORT", help="Where clients connect; PORT 0 is any free one.")
    ] = _LISTEN,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="KEY", help="What clients ask for: one for all, or one a board. [default: its name]"
        ),
    ] = None,
    tracker: Annotated[
        str | None, typer.Option("--tracker", metavar="HOST:PORT", help="Offer the boards at this tracker.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="HOST", help="How the tracker's clients reach this computer. [default: as it does]"
        ),
    ] = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    allow_load: Annotated[
        bool,
        typer.Option(
            "--allow-load", help="Run the code that clients upload, as TVM's tuner does: on `posix`, on this computer."
        ),
    ] = False,
    firmware: Annotated[
        str | None,
        typer.Option(
            "--firmware",
            metavar="DIRECTORY",
            help="The project that --allow-load links code into. [default: microrpc's firmware for the board]",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell when sessions begin and end, and what is done.")
    ] = False,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Serve boards to TVM's clients, each as an RPC server of TVM.

    Until Ctrl-C, all on one TCP port.

    The first line on stdout is where they connect; where stdout is no terminal it is nothing else.
    A board has one session at a time; who comes meanwhile waits. A client without a key gets any board that is free.
    """
    with reporting(as_json=as_json):
        import asyncio

        from microrpc.gateway.tvm.opening import BoardOpener
        from microrpc.gateway.tvm.registration import check_key
        from microrpc.gateway.tvm.server import Gateway
        from microrpc.gateway.tvm.station import Station

        host, number = parse_address(listen, "--listen", _LISTEN)
        at = parse_address(tracker, "--tracker", "127.0.0.1:9190", needs_host=True) if tracker is not None else None
        for option, given, which in (("--listen", listen, number), ("--tracker", tracker, at[1] if at else 0)):
            if which > _LAST_PORT:
                raise typer.BadParameter(f"{option} {given}: a port is from 0 to {_LAST_PORT}")
        if address is not None and at is None:
            raise typer.BadParameter("--address: it is what a tracker is told; give --tracker, too")
        if firmware is not None and not allow_load:
            raise typer.BadParameter("--firmware: it is what uploads are linked into; give --allow-load, too")
        is_known = board is not None or board_file is not None
        wanted: list[str | None] = [*(ports or [])] or [None]
        found = [find_board_port(port, board, board_file) for port in wanted]
        stations = []
        for (port, profile), name in zip(found, _keys(key or [], [profile.name for _, profile in found]), strict=True):
            opener = BoardOpener(
                port,
                board=profile if is_known else None,  # the generic profile tells nothing of the board that is there
                baud=baud,
                timeouts=timeouts_of(profile, timeout),
                on_log=note_log,
                options=options,
                capture=capture(),
            )
            on_session: Callable[[str], None] = note if verbose else _ignore
            stations.append(
                Station(
                    port,
                    check_key(name),
                    opener,
                    call_s=opener.call_s,
                    make_loader=_make_loader(opener.target, firmware) if allow_load else None,
                    on_note=note,
                    on_session=on_session,
                )
            )
        if allow_load:
            note(
                "warning: --allow-load: whoever reaches this port has their code compiled on this computer and run on "
                "the boards; where a board is a program of this computer (posix), it runs here, as you"
            )
        warn_of_others(host, number, "the boards, for TVM's protocol has no password")
        if at is not None and is_loopback(host) and not is_loopback(at[0]):
            note(f"warning: clients on other computers do not reach {host}: give --listen 0.0.0.0:{number}")
        gateway = Gateway(stations, host=host, port=number, tracker=at, address=address, on_note=note)
        asyncio.run(finish_at_signal(_serve(gateway, stations, as_json=as_json)))


def _make_loader(target: Target, firmware: str | None) -> Callable[[Station], Loader]:
    """Give what makes the loader of a board's uploads. Raises FirmwareError where there can be none."""
    from microrpc.gateway.tvm.loading import UploadLoader, make_linker

    linker = make_linker(target, firmware)
    return lambda station: UploadLoader(linker, station.restart_with)


def _keys(given: Sequence[str], names: Sequence[str]) -> list[str]:
    """Give the key of each board. Raises typer.BadParameter."""
    if len(given) not in (0, 1, len(names)):
        raise typer.BadParameter(
            f"--key: {len(given)} are given, and boards {len(names)}: give one for all, or one for each"
        )
    return list(given) * len(names) if len(given) == 1 else list(given or names)


def _ignore(text: str) -> None:
    """Sessions are told of with --verbose alone."""


async def _serve(gateway: Gateway, stations: Sequence[Station], *, as_json: bool) -> None:
    async with gateway:
        host, port = gateway.address
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if as_json:
            boards = [{"port": station.name, "key": station.key} for station in stations]
            print_json({"host": host, "port": port, "boards": boards})
        elif is_terminal(sys.stdout):
            for station in stations:
                say(f"{station.name} is served to TVM at {where} under the key {station.key!r} until Ctrl-C.")
            say(f'Try: tvm.rpc.connect("{host}", {port}, key="{stations[0].key}")')
        else:
            say(where)
        await gateway.wait()
