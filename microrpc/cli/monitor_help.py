"""The keys of the monitor, told on its screen."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
  up, down, page up, page down   choose a row; Home the oldest
  End, f      follow the newest
  space       pause: rows stay as they are, what comes is kept and counted
  enter       details of the chosen row: fields, and its bytes on the line
  tab         go to the details, to scroll them, and back
  r           go from a request to its reply, and back
  /           show only what has these words: add 0x2000 !LOG
  1 to 7      show or hide a family; 0 shows all
  t           times: since the first row, since the one before, of the day
  c           clear rows and figures
  s           save what is kept as pcapng, for Wireshark and `decode`
  ?, q        this help; quit

  Bytes of a frame: its start is green, escapes are orange.
  Any key closes this."""
"""What the key ? shows."""


class Help(ModalScreen[None]):
    """Shows them until any key is pressed."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > Static { width: auto; height: auto; max-width: 100%; border: round $primary; padding: 1 2; }
    Help > Static { background: $surface; }
    """

    def compose(self) -> ComposeResult:
        """Make it."""
        yield Static(HELP, markup=False)

    def on_key(self) -> None:
        """Go."""
        self._close()

    def on_click(self) -> None:
        """Go."""
        self._close()

    def _close(self) -> None:
        if self.is_current:  # and not closed already: keys may come fast
            self.dismiss()
