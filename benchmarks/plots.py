"""Draw the plots of BENCHMARKS.md from the figures of one run.

    python -m benchmarks --json results.json
    python -m benchmarks.plots results.json     # writes docs/plots/*.svg

The same figures give the same files, byte for byte.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import statistics
import sys
from collections.abc import Callable
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, ScalarFormatter

from benchmarks.processes import ROOT
from microrpc.boards.files import replacing

Raw = dict[str, Any]

DIRECTORY = ROOT / "docs" / "plots"
# Okabe and Ito's colours, which the colour-blind can tell apart; markers and dashes say the same again.
_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
_BLACK, _GREY = "#000000", "#777777"
_MODE_STYLES = {
    "stock": (_ORANGE, "s"),
    "robust": (_BLUE, "o"),
    "stock, ring known": (_BLUE, "^"),
    "link": (_GREEN, "D"),
}
_OTHER_MODE = (_PURPLE, "v")
_PEER_STYLES = ((_BLACK, "--"), (_PURPLE, ":"), (_SKY, "-."), (_YELLOW, "--"), (_BLACK, ":"), (_GREY, "-."))
_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.figsize": (7.2, 4.2),
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "microrpc",
}
_LEAST_PERCENT = 0.01  # what a logarithmic axis shows in place of nothing
_HIGHEST_QUANTILE = 0.99


def draw(rows: list[Raw], directory: pathlib.Path = DIRECTORY) -> list[pathlib.Path]:
    """Write one SVG for each plot that there are figures for; give their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    plots: dict[str, tuple[str, Callable[[list[Raw], Axes], None]]] = {
        "line-rate": ("efficiency", _efficiency),
        "noise": ("goodput", _goodput),
        "peer-call": ("latency", _latency),
    }
    written = []
    for kind, (name, plot) in plots.items():
        if not (raws := [row["raw"] for row in rows if row["raw"].get("kind") == kind]):
            continue
        with mpl.rc_context(_STYLE):
            figure, axes = plt.subplots()
            plot(raws, axes)
            path = directory / f"{name}.svg"
            with replacing(path) as file:
                figure.savefig(file, format="svg", metadata={"Date": None})
            plt.close(figure)
        written.append(path)
    return written


def _efficiency(raws: list[Raw], axes: Axes) -> None:
    """Draw what was reached over the size of a packet, and the ceilings."""
    raws = [raw for raw in raws if raw["direction"] == "to"]
    ceilings: dict[tuple[float, ...], list[str]] = {}
    for mode in dict.fromkeys(raw["mode"] for raw in raws):
        mine = [raw for raw in raws if raw["mode"] == mode]
        sizes = [raw["packet_bytes"] for raw in mine]
        ceilings.setdefault(tuple(raw["ceiling"] for raw in mine), []).append(mode)
        color, marker = _MODE_STYLES.get(mode, _OTHER_MODE)
        medians = [statistics.median(raw["efficiencies"]) for raw in mine]
        axes.plot(sizes, medians, color=color, marker=marker, label=f"{mode}, measured")
    for (values, modes), style in zip(ceilings.items(), ("--", ":", "-."), strict=False):
        axes.plot(sizes, values, color=_BLACK, linestyle=style, linewidth=1, label=f"ceiling of {', '.join(modes)}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(45, 100)
    axes.set_xlabel("packet size of the board, bytes")
    axes.set_ylabel("share of the line's bits that is payload, %")
    axes.set_title("256 KiB of random bytes to the board at 921600 baud", loc="left", fontsize=11)
    axes.legend(loc="lower right")


def _goodput(raws: list[Raw], axes: Axes) -> None:
    """Draw what is left of the clean line's goodput over the bit error rate: medians, and all seeds."""
    raws = [raw for raw in raws if raw["bit_error_rate"]]
    for mode in dict.fromkeys(raw["mode"] for raw in raws):
        mine = [raw for raw in raws if raw["mode"] == mode]
        rates = [raw["bit_error_rate"] for raw in mine]
        color, marker = _MODE_STYLES.get(mode, _OTHER_MODE)
        shares = [sorted(max(share, _LEAST_PERCENT) for share in raw["goodputs"]) for raw in mine]
        axes.plot(rates, [statistics.median(some) for some in shares], color=color, marker=marker, label=mode)
        axes.fill_between(
            rates, [some[0] for some in shares], [some[-1] for some in shares], color=color, alpha=0.15, linewidth=0
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(_LEAST_PERCENT * 0.8, 150)
    axes.yaxis.set_major_locator(FixedLocator([_LEAST_PERCENT, 0.1, 1, 10, 100]))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_yticklabels(["none", "0.1", "1", "10", "100"])
    axes.set_xlabel("bit error rate")
    axes.set_ylabel("goodput, % of the clean line's")
    axes.set_title("Copies on a noisy line: median of the seeds, least to most shaded", loc="left", fontsize=11)
    axes.legend(loc="lower left")


def _latency(raws: list[Raw], axes: Axes) -> None:
    """Draw how many round trips take at most so long."""
    peers = itertools.cycle(_PEER_STYLES)
    for raw in raws:
        times = raw["quantiles_us"]
        count = round(_HIGHEST_QUANTILE * (len(times) - 1)) + 1
        shares = [100 * at / (len(times) - 1) for at in range(count)]
        owner, _, mode = raw["series"].partition(", ")
        is_ours = owner == "microrpc"
        color, dashes = (_MODE_STYLES.get(mode, _OTHER_MODE)[0], "-") if is_ours else next(peers)
        width = 2.0 if is_ours else 1.4
        axes.plot(times[:count], shares, color=color, linestyle=dashes, linewidth=width, label=raw["series"])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(0, 100)
    axes.set_xlabel("round trip over a pty without pacing, µs")
    axes.set_ylabel("share of the round trips that take at most so long, %")
    axes.set_title("A small call: ours and others in turns, two processes each", loc="left", fontsize=11)
    axes.legend(loc="lower right", bbox_to_anchor=(0.93, 0.0))


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    rows = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["rows"]
    for path in draw(rows):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
