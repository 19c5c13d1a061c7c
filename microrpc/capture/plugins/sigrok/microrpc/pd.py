"""The decoder as libsigrokdecode calls it; `frames` and `words` know the protocol."""

import sigrokdecode as srd

from .frames import DAMAGE, FRAME, TEXT, Deframer
from .values import printable, quoted, text_of
from .words import LOG, Words

_RX, _TX = 0, 1
_TO_BOARD, _FROM_BOARD, _LOG, _TEXT, _NOISE, _DAMAGE, _LINE = range(7)
_LINE_FAULTS = {
    "INVALID STOPBIT": "UART: the stop bit is 0: is the baud rate right?",
    "PARITY ERROR": "UART: the parity is wrong",
    "BREAK": "UART: break",
}


class Decoder(srd.Decoder):
    """Frames in words."""

    api_version = 3
    id = "microrpc"
    name = "microrpc"
    longname = "microrpc and microTVM RPC"
    desc = "Calls and copies on a microcontroller over a UART."
    license = "apache-2.0"
    inputs = ["uart"]
    outputs = []
    tags = ["Embedded/industrial"]
    options = ({"id": "board", "desc": "The line that the board drives", "default": "rx", "values": ("rx", "tx")},)
    annotations = (
        ("to-board", "To the board"),
        ("from-board", "From the board"),
        ("log", "Log of the board"),
        ("text", "Text beside frames"),
        ("noise", "Noise beside frames"),
        ("damage", "Damaged frame"),
        ("line", "Fault of the line"),
    )
    annotation_rows = (
        ("to", "To the board", (_TO_BOARD,)),
        ("from", "From the board", (_FROM_BOARD, _LOG)),
        ("beside", "Beside frames", (_TEXT, _NOISE)),
        ("faults", "Damage", (_DAMAGE, _LINE)),
    )
    binary = (
        ("payload-to-board", "Payloads of frames to the board"),
        ("payload-from-board", "Payloads of frames from the board"),
    )

    def __init__(self):
        self.reset()

    def reset(self):
        """Begin anew."""
        self.lines = {_RX: Deframer(), _TX: Deframer()}
        self.words = Words()

    def start(self):
        """Say what comes out."""
        self.out_ann = self.register(srd.OUTPUT_ANN)
        self.out_binary = self.register(srd.OUTPUT_BINARY)
        self.from_board = _RX if self.options["board"] == "rx" else _TX

    def decode(self, ss, es, data):
        """Take what the UART's decoder tells of the samples `ss` to `es`."""
        what, line, value = data
        if what == "DATA":
            found = self.lines[line].feed(value[0] & 0xFF, ss, es)
        elif what == "IDLE":
            found = self.lines[line].pause()
        else:
            if what in _LINE_FAULTS:
                self.put(ss, es, self.out_ann, [_LINE, [_LINE_FAULTS[what], what.lower(), "!"]])
            return
        for one in found:
            self.show(line != self.from_board, *one)

    def show(self, to_board, what, ss, es, data):
        """Show what a direction of the line gave."""
        if what == FRAME:
            kind, meaning = self.words.explain(data, to_board)
            self.put(ss, es, self.out_binary, [0 if to_board else 1, data])
            row = _TO_BOARD if to_board else _LOG if kind == LOG else _FROM_BOARD
            end = " ({} B, session 0x{:04x})".format(len(data), int.from_bytes(data[:2], "little"))
        else:
            side = " (to the board)" if to_board else " (from the board)"
            if what == DAMAGE:
                row, kind, meaning, end = _DAMAGE, "damaged", data, side
            elif what == TEXT:
                text = quoted(text_of(data).rstrip("\r\n"))
                row, kind, meaning, end = _TEXT, "text", text, side
            else:
                row, kind, meaning, end = _NOISE, "noise", "{} bytes outside of any frame".format(len(data)), side
        shown = printable(kind + " " + meaning if meaning else kind)
        self.put(ss, es, self.out_ann, [row, [shown + end, shown, kind, kind[0]]])
