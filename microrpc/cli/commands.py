"""The commands, as `--help` lists them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from microrpc.cli import completing, signals, streams
from microrpc.cli.board import call
from microrpc.cli.boards import boards
from microrpc.cli.capture import capture
from microrpc.cli.common import EXIT_CODES, ExitCode, examples, explaining, is_json_wanted
from microrpc.cli.decode import decode
from microrpc.cli.demo.command import demo
from microrpc.cli.events import events
from microrpc.cli.files import get, put
from microrpc.cli.firmware import firmware
from microrpc.cli.flash import flash
from microrpc.cli.functions import functions, stubs
from microrpc.cli.info import info
from microrpc.cli.log import log
from microrpc.cli.model import model
from microrpc.cli.monitor.command import monitor
from microrpc.cli.ports import ports
from microrpc.cli.reset import reset
from microrpc.cli.share import share
from microrpc.cli.sigrok import sigrok
from microrpc.cli.sim import sim
from microrpc.cli.telling import with_trace_values
from microrpc.cli.tvm import tvm
from microrpc.cli.tvm_build import build as tvm_build
from microrpc.cli.wireshark import wireshark

_PORTS = """\b
What a PORT is:
  /dev/ttyACM0, COM3   a serial port (`microrpc ports` lists them)
  sim://               a board that is simulated while the command runs
  sim://PROFILE        the same, for example sim://nucleo_f746zg
  qemu://NAME          a board in QEMU, for example qemu://mps2_an385:
                       real firmware, built and started while the command
                       runs (docs/firmware.md)
  emulated://NAME      the same for any emulated board: emulated://posix
  socket://HOST:PORT   a serial line carried over TCP
  tcp://HOST:PORT      an RPC server that speaks without frames
  tvm://HOST:PORT      a board that `microrpc tvm serve` serves, of those
                       with a key: tvm://HOST:PORT?key=KEY
  unix:///PATH         a board that `microrpc share` shares"""

# Without "call" in front of them, -2 and --5 would be options.
_RAW = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


class _RawCommand(TyperCommand):
    """A command whose arguments may begin with a dash: -h and -v are, unless they stand where PORT or NAME does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find out what the arguments are."""
        first = self._before_arguments(args)
        if "-h" in args[:first]:
            return super().parse_args(ctx, ["--help"])
        return super().parse_args(ctx, ["--verbose" if arg == "-v" else arg for arg in args[:first]] + args[first:])

    def _before_arguments(self, args: list[str]) -> int:
        """Count what stands up to PORT and NAME, with the options among it and what they take."""
        with_value = {name for one in self.params if not getattr(one, "is_flag", True) for name in one.opts}
        wanted, at = 2, 0  # PORT and NAME
        while wanted and at < len(args):
            if args[at] in with_value:
                at += 1
            elif not args[at].startswith("-"):
                wanted -= 1
            at += 1
        return at


# The headings of `--help` behind the first.
_LINE, _OTHERS, _MODELS = "What crosses the line", "Boards for other programs", "Firmware and models"


class _Group(TyperGroup):
    """All commands: a --trace without a file takes none of their arguments for one; listed under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what `--help` lists: one line for each command, in columns that go through all of it."""
        widest = max(map(len, self.commands))
        limit = formatter.width - widest - 6  # as click has it
        rows: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None)
            heading = panel if isinstance(panel, str) else "Commands"  # without one, typer has a placeholder there
            rows.setdefault(heading, []).append((name.ljust(widest), command.get_short_help_str(limit)))
        for heading, listed in rows.items():
            with formatter.section(heading):
                formatter.write_dl(listed)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find out which command it is."""
        return super().parse_args(ctx, with_trace_values(args))


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""The commands, as typer runs them."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        streams.say(f"microrpc {version('microrpc')}")
        raise typer.Exit


@app.callback(epilog=f"{_PORTS}\n\n{EXIT_CODES}")
def _microrpc(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Call functions and move tensors on a microcontroller over a serial port.

    Start with `microrpc demo`, which needs no board. PORT may be sim:// wherever a command wants one. With --trace a
    command says what crosses the line, with --capture FILE it keeps it.
    """


app.command(
    epilog=examples("microrpc demo", "microrpc demo --board nucleo_f746zg", "microrpc demo --board qemu_mps2_an385")
)(demo)
app.command(epilog=examples("microrpc ports", "microrpc ports --json"))(ports)
app.command(
    epilog=examples(
        "microrpc info sim://",
        "microrpc info sim://nucleo_f746zg",
        "microrpc info /dev/ttyACM0 --json",
        "microrpc info --board nucleo_f746zg",
    )
)(info)
app.command(epilog=examples("microrpc functions sim://", "microrpc functions /dev/ttyACM0 --json"))(functions)
app.command(
    cls=_RawCommand,
    context_settings=_RAW,
    epilog=examples(
        "microrpc call sim:// add 2 3",
        "microrpc call sim:// reverse hello",
        "microrpc call sim:// scale_f32 @x.npy 0.5 --out 1=y.npy",
        "microrpc call sim:// matmul_f32 @a.npy @b.npy tensor:float32[4,4] --json",
    ),
)(call)
app.command(
    epilog=examples(
        "microrpc put /tmp/board weights.npy",
        "microrpc put /tmp/board weights.bin --dtype float32 --shape 4,4",
        "microrpc put sim:// weights.npy",
    )
)(put)
app.command(
    epilog=examples(
        "microrpc get /tmp/board 0x20000000 64 weights.bin",
        "microrpc get /tmp/board 0x20000000 64 w.npy --dtype float32 --shape 4,4",
    )
)(get)
app.command(epilog=examples("microrpc events /dev/ttyACM0", "microrpc events unix:///tmp/board.sock sample --json"))(
    events
)
app.command(epilog=examples("microrpc log /dev/ttyACM0", "microrpc log /dev/ttyACM0 --level warning --json"))(log)
app.command(
    epilog=examples("microrpc reset --board arduino_due", "microrpc reset /dev/ttyACM0 --board-file mine.toml")
)(reset)
app.command(
    epilog=examples("microrpc boards", "microrpc boards arduino_due", "microrpc boards --board-file mine.toml --json")
)(boards)
app.command(epilog=examples("microrpc stubs /dev/ttyACM0 -o meter.pyi", "microrpc stubs sim://"))(stubs)
app.command(
    rich_help_panel=_LINE,
    epilog=examples(
        "microrpc monitor /dev/ttyACM0 --through /tmp/board",
        "microrpc monitor x.pcapng",
        "microrpc monitor x.pcapng --follow",
        "microrpc monitor x.pcapng --plain | grep CallFunc",
    ),
)(monitor)
app.command(
    rich_help_panel=_LINE,
    epilog=examples(
        "microrpc capture /dev/ttyACM0 -w x.pcapng --through /tmp/board",
        "microrpc capture --board nucleo_f746zg --through /tmp/board",
        "microrpc capture /dev/ttyACM0 -w - | wireshark -k -i -",
    ),
)(capture)
app.command(
    rich_help_panel=_LINE,
    epilog=examples(
        "microrpc decode x.pcapng",
        "microrpc decode x.pcapng --kind CallFunc --name 'motor_*' --json",
        "microrpc decode x.pcapng --damage --from 10 --to 12",
        "tail -f -c +1 x.pcapng | microrpc decode -",
    ),
)(decode)
app.command(rich_help_panel=_LINE, epilog=examples("microrpc wireshark --install", "microrpc wireshark"))(wireshark)
app.command(rich_help_panel=_LINE, epilog=examples("microrpc sigrok --install", "microrpc sigrok"))(sigrok)
app.command(
    rich_help_panel=_OTHERS,
    epilog=examples(
        "microrpc share /dev/ttyACM0",
        "microrpc share --board nucleo_f746zg --socket /tmp/board.sock",
        "microrpc call unix:///tmp/board.sock add 2 3",
    ),
)(share)
app.command(
    rich_help_panel=_OTHERS, epilog=examples("microrpc sim --link /tmp/board", "microrpc sim --board arduino_due")
)(sim)
firmware.command(
    epilog=examples(
        "microrpc firmware flash rpi_pico",
        "microrpc firmware flash rpi_pico my_project --dry-run",
        "microrpc firmware flash /dev/ttyACM0 my_project --board arduino_uno",
        "microrpc firmware flash rpi_pico firmware.uf2 --drive /media/me/RPI-RP2",
    )
)(flash)
app.add_typer(firmware, name="firmware", rich_help_panel=_MODELS)
app.add_typer(model, name="model", rich_help_panel=_MODELS)
tvm.command(
    "build",
    epilog=examples(
        "microrpc tvm build kernels.py:make --board qemu_mps2_an385 --out my_project",
        "microrpc tvm build model.onnx --board qemu_mps2_an385 --out my_model",
        "microrpc tvm build nets.py:convnet --board posix --out my_net --json",
    ),
)(tvm_build)
app.add_typer(tvm, name="tvm", rich_help_panel=_MODELS)


def run() -> int:
    """Run the command line to its end, interruptible by Ctrl-C as Python is; give its exit code."""
    streams.prepare()
    try:
        with (
            explaining(as_json=is_json_wanted(sys.argv[1:])),
            signals.interruptible(),
            streams.printing(),
            completing.in_bash(),
        ):
            return app(standalone_mode=False) or ExitCode.OK
    except typer.Exit as end:
        return end.exit_code
    except SystemExit as end:  # typer ends so after a completion, or where nobody reads the help any more
        return ExitCode.READER_GONE if end.code else ExitCode.OK
    finally:
        streams.settle()
