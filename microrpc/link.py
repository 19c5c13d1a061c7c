"""The old name of what is in `microrpc.wire.link`, `microrpc.host.link` and beside them, which still works."""

from microrpc._names import moved

__getattr__ = moved(
    __name__,
    {
        "firmware_sim.board.link": "LinkDevice",
        "microrpc.host.link": "LinkHost LinkReply LinkRequest",
        "microrpc.host.blocks": "Noise",
        "microrpc.wire.link": "LinkParameters ReplyKind RequestKind decode_link_message encode_link_message",
        "microrpc.wire.names": "LINK_FUNCTION",
    },
)
