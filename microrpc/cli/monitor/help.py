"""The keys of the monitor, told on its screen: all of them, and in its last line those that are wanted most."""

from __future__ import annotations

from textual import events
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

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


class Help(Static, can_focus=True):
    """Shows them above the rows until any key is pressed, which does nothing else.

    It is no screen of its own: to put one above another takes longer than all else that a key does.
    """

    DEFAULT_CSS = """
    Help { layer: help; display: none; width: auto; height: auto; max-width: 100%; max-height: 100%; }
    Help { border: round $primary; padding: 1 2; background: $surface; }
    Help.shown { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(HELP, markup=False)
        self._before: Widget | None = None

    @property
    def is_open(self) -> bool:
        """Whether it takes the next key."""
        return self.screen.focused is self

    def open(self) -> None:
        """Show them."""
        self._before = self.screen.focused
        self.add_class("shown")
        self.screen.set_focus(self, scroll_visible=False)

    def on_focus(self) -> None:
        """Come, also where the window has the focus again."""
        self.add_class("shown")

    def on_blur(self) -> None:
        """Go, whatever took the focus: a click elsewhere, or another window."""
        self.remove_class("shown")

    def on_key(self, event: events.Key) -> None:
        """Go."""
        event.stop()
        self._close()

    def on_click(self) -> None:
        """Go."""
        self._close()

    def _close(self) -> None:
        if self.is_open:  # and not closed already: keys may come fast
            self.screen.set_focus(self._before, scroll_visible=False)


class Keys(Footer):
    """The last line. It is made once: to make it anew at each change of focus holds up the next key."""

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Make it."""
        if not self._bindings_ready:
            super().bindings_changed(screen)
