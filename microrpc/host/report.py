"""What a board is asked of its memory (docs/device.md 4)."""

from __future__ import annotations

from microrpc.errors import FunctionNotFoundError
from microrpc.host.operation import Operation
from microrpc.host.requests import Requests
from microrpc.wire.memory import BoardMemory, decode_memory
from microrpc.wire.names import MEMORY_FUNCTION


def ask_memory(requests: Requests, name: str) -> Operation[BoardMemory]:
    """Ask the board on the port `name` what is used of its memory.

    Raises FunctionNotFoundError where it does not tell, as stock firmware does not, and ProtocolError.
    """
    handle = yield from requests.look_up(MEMORY_FUNCTION)
    if not handle:
        raise FunctionNotFoundError(
            f"{name} has no function {MEMORY_FUNCTION!r}, which tells what is used of a board's memory: the library in "
            f"C has it where it is built with MICRORPC_MEMORY=1, and stock firmware never"
        )
    epoch = requests.connection.trust.reply_epoch
    return decode_memory((yield from requests.call(handle, (), epoch=epoch, function=MEMORY_FUNCTION)))
