"""microrpc: calls of functions and copies of tensors on microcontrollers, over a UART.

Stacked on the decoder `uart`, it shows each frame with what it says: sessions, the board's log, calls and what they
returned, copies, the reliable link with its sequence numbers, events. Damaged frames, bytes outside of frames and text
that the firmware printed beside them have rows of their own. The option `board` tells which line the board drives.
"""

from .pd import Decoder
