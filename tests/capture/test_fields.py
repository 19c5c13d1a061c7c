"""The fields of records: names and values that both decoders give (microrpc/capture/fields.py)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

import pytest
from golden import NAMES, load
from hypothesis import given
from hypothesis import strategies as st

from microrpc.capture.fields import FIELDS, FieldType, fields_of
from microrpc.capture.forms import text_of, value_of
from microrpc.capture.messages import read_message
from microrpc.capture.records import Record, RecordReader
from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    UInt,
    Value,
)
from microrpc.wire.events import (
    EventAck,
    EventMessage,
    EventState,
    encode_event,
    encode_event_ack,
    encode_event_body,
    encode_event_state,
)
from microrpc.wire.features import Feature, Features
from microrpc.wire.frames import encode_frame
from microrpc.wire.link import (
    PROGRESS,
    LinkParameters,
    ReplyKind,
    RequestKind,
    encode_link_message,
    encode_with_kind,
    sealed,
)
from microrpc.wire.memory import encode_memory
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    Packet,
    PacketCode,
    RemoteException,
    Return,
    Shutdown,
    Syscall,
    encode_packet,
)
from microrpc.wire.session import MessageType

TO, FROM = True, False
TENSOR = Tensor(0x20000000, CPU, DataType.parse("float32"), (2, 3), 8)


def normal(packet: Packet, session_id: int = 0x0201) -> bytes:
    return struct.pack("<HB", session_id, MessageType.NORMAL) + encode_packet(packet)


def read(*payloads: tuple[bool, bytes]) -> list[Record]:
    """Give the records of frames, each a packet, 1 ms apart."""
    reader = RecordReader()
    found: list[Record] = []
    for number, (to_board, payload) in enumerate(payloads, 1):
        found += reader.read(number, number * 1_000_000, to_board, encode_frame(payload))
    return found


def fields(*payloads: tuple[bool, bytes]) -> list[dict[str, object]]:
    return [
        {name.removeprefix("microrpc."): value for name, value in fields_of(record).items()}
        for record in read(*payloads)
    ]


def only(to_board: bool, payload: bytes) -> dict[str, object]:
    """Give the fields of one frame, without those that its header has."""
    [found] = fields((to_board, payload))
    header = ("payload_size", "session_id", "message_type", "packet_size", "link.crc32_ok")
    return {name: value for name, value in found.items() if name not in header}


def check_against_the_table(records: Iterable[Record]) -> None:
    kinds = {
        FieldType.NUMBER: int,
        FieldType.HEX: int,
        FieldType.TEXT: str,
        FieldType.FLAG: bool,
        FieldType.MARK: bool,
        FieldType.PACKET: int,
        FieldType.SECONDS: float,
    }
    for record in records:
        for name, value in fields_of(record).items():
            field = FIELDS[name]
            for one in value if isinstance(value, list) else [value]:
                assert type(one) is kinds[field.type], (name, value)
                assert one is True or field.type is not FieldType.MARK
                assert not isinstance(one, str) or one.isprintable() or any(ord(char) > 0x9F for char in one)
            assert isinstance(value, list) is field.repeats, name


# --- values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-5, "-5"),
        (UInt(2**64 - 1), "18446744073709551615"),
        (0.1, "0.1"),
        (1 / 3, "0.3333333333333333"),
        (0.1 + 0.2, "0.30000000000000004"),
        (5e-324, "4.94065645841247e-324"),
        (1e22, "1e+22"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (OpaqueHandle(31), "0x1f"),
        (FunctionHandle(0), "0x0"),
        (ModuleHandle(5), "0x5"),
        (None, "None"),
        (DataType(0, 32, 4), "int32x4"),
        (CPU, "1:0"),
        (TENSOR, "float32[2,3] at 0x20000000"),
        (Tensor(0, CPU, DataType.parse("bool"), ()), "bool[]"),
        (ArrayResult(TENSOR, OpaqueHandle(7)), "float32[2,3] at 0x20000000"),
        ("caf\xe9\n\\", "caf\xe9\\x0a\\"),
        ("\udcff", "\\xff"),
        (b"\0\xff", "bytes:00ff"),
        (bytes(20), "bytes:" + 20 * "00"),
        (bytes(21), "21 bytes"),
    ],
)
def test_each_value_has_one_form(value: Value | ArrayResult, text: str) -> None:
    assert value_of(value) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain ~", "plain ~"),
        (b"\x1b[31m\x7f", "\\x1b[31m\\x7f"),
        ("\x85\xa0\u2192".encode(), "\\xc2\\x85\xa0\u2192"),
        (b"\xed\xa0\x80\xc0\xaf\xf4\x90", "\\xed\\xa0\\x80\\xc0\\xaf\\xf4\\x90"),
        (b"a" * 1023 + "\xe9".encode(), "a" * 1023 + "\\xc3"),
    ],
)
def test_a_text_is_safe_and_bounded(data: bytes, text: str) -> None:
    assert text_of(data) == text


@given(st.floats())
def test_a_float_reads_back_the_same(value: float) -> None:
    assert struct.pack("<d", float(value_of(value))) == struct.pack("<d", value) or math.isnan(value)


# --- messages ---------------------------------------------------------------------------------------


def test_a_session_is_opened() -> None:
    assert fields(
        (TO, b"\0\0\2"), (TO, b"\x26\0\0\1"), (FROM, b"\x26\x62\1\1"), (FROM, b"\0\0\3[W 0001.000002] hot\n")
    ) == [
        {"kind": "TERMINATE", "payload_size": 3, "session_id": 0, "message_type": 2},
        {"kind": "INIT", "payload_size": 4, "session_id": 0x26, "message_type": 0, "nonce": 0x26},
        {"kind": "REPLY", "payload_size": 4, "session_id": 0x6226, "message_type": 1, "nonce": 0x62},
        {
            "kind": "LOG",
            "payload_size": 23,
            "session_id": 0,
            "message_type": 3,
            "log.text": "hot\\x0a",
            "log.level": "warning",
            "log.board_time_us": 1000002,
        },
    ]


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (Shutdown(), {"kind": "Shutdown", "code": "Shutdown"}),
        (
            InitServer("0.8.0", ("local",)),
            {"kind": "InitServer", "code": "InitServer", "version": "0.8.0", "argc": 1, "arg": ["local"]}
            | {"arg.type": ["Str"]},
        ),
        (
            CallFunc(0x1F, (1, 2.5, TENSOR, ModuleHandle(3))),
            {
                "kind": "CallFunc",
                "code": "CallFunc",
                "handle": 0x1F,
                "argc": 4,
                "arg": ["1", "2.5", "float32[2,3] at 0x20000000", "0x3"],
                "arg.type": ["Int", "Float", "Tensor", "ModuleHandle"],
                "tensor.dtype": ["float32"],
                "tensor.shape": ["[2,3]"],
                "tensor.address": [0x20000000],
                "tensor.offset": [8],
            },
        ),
        (
            CopyToRemote(TENSOR, b"123"),
            {
                "kind": "CopyToRemote",
                "code": "CopyToRemote",
                "tensor.dtype": ["float32"],
                "tensor.shape": ["[2,3]"],
                "tensor.address": [0x20000000],
                "tensor.offset": [8],
                "data_size": 3,
            },
        ),
        (Syscall(99, ()), {"kind": "code 99", "code": "code 99", "argc": 0}),
        (
            Syscall(PacketCode.DEV_FREE_DATA, (CPU, OpaqueHandle(16))),
            {"kind": "DevFreeData", "code": "DevFreeData", "argc": 2, "arg": ["1:0", "0x10"]}
            | {"arg.type": ["Device", "OpaqueHandle"]},
        ),
    ],
)
def test_requests(packet: Packet, expected: dict[str, object]) -> None:
    assert only(TO, normal(packet)) == expected


def test_a_copy_back_is_answered() -> None:
    asked, answered = fields((TO, normal(CopyFromRemote(TENSOR, 24))), (FROM, normal(CopyAck(bytes(24)))))
    assert (asked["data_size"], asked["response_in"], asked["tensor.offset"]) == (24, 2, [8])
    assert (answered["kind"], answered["data_size"], answered["request_in"]) == ("CopyAck", 24, 1)
    assert answered["response_time"] == 0.001


def test_a_function_is_named_by_its_look_up() -> None:
    found = fields(
        (TO, normal(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",)))),
        (FROM, normal(Return((OpaqueHandle(0x80),)))),
        (TO, normal(CallFunc(0x80, (2, 3)))),
        (FROM, normal(Return((0, 5)))),
        (FROM, b"\0\0\2"),
        (TO, normal(CallFunc(0x80, (2, 3)))),
        (FROM, normal(RemoteException("no\0pe"))),
    )
    assert [one.get("function") for one in found] == ["add", "add", "add", "add", None, None, None]
    assert (found[3]["result"], found[3]["result.type"], found[3]["arg"]) == ("5", "Int", ["0", "5"])
    assert found[6]["error"] == "no\\0pe"


def test_a_reply_of_another_session_answers_nothing() -> None:
    asked, answered = fields((TO, normal(CallFunc(1, ()), 5)), (FROM, normal(Return((4, None)), 6)))
    assert "response_in" not in asked
    assert answered.keys() & {"request_in", "response_time", "result"} == set()


def test_the_link_pairs_by_seq_and_shows_what_was_sent_again() -> None:
    request, reply = MessageType.LINK_REQUEST, MessageType.LINK_REPLY
    write = encode_with_kind(9, request, 7, RequestKind.WRITE, struct.pack("<Q", 0x100) + b"abc")
    ask = encode_with_kind(9, request, 8, RequestKind.READ, struct.pack("<QI", 0x100, 3))
    found = fields(
        (TO, write),
        (TO, ask),
        (FROM, encode_with_kind(9, reply, 8, ReplyKind.DATA, b"abc")),
        (TO, write),
        (FROM, encode_with_kind(9, reply, 7, ReplyKind.DONE, b"")),
        (FROM, encode_with_kind(9, reply, 7, ReplyKind.DONE, b"")),
        (FROM, encode_link_message(9, MessageType.LINK_NAK, 9)),
    )
    assert [one["kind"] for one in found] == ["WRITE", "READ", "DATA", "WRITE", "DONE", "DONE", "NAK"]
    assert [one.get("link.retransmission") for one in found] == [None, None, None, True, None, True, None]
    assert [one.get("request_in") for one in found] == [None, None, 2, None, 1, 1, None]
    assert [one.get("response_in") for one in found] == [5, 3, None, None, None, None, None]
    assert [one["link.seq"] for one in found] == [7, 8, 8, 7, 7, 7, 9]
    assert (found[0]["link.address"], found[0]["link.size"], found[1]["link.size"]) == (0x100, 3, 3)
    assert (found[2]["data_size"], found[2]["link.kind"], found[2]["link.crc32_ok"]) == (3, "DATA", True)
    assert found[4]["response_time"] == 0.004


def test_numbers_of_the_link_begin_anew_in_another_session() -> None:
    asked = [encode_with_kind(session, MessageType.LINK_REQUEST, 7, RequestKind.WRITE, bytes(8)) for session in (9, 10)]
    done = encode_with_kind(10, MessageType.LINK_REPLY, 7, ReplyKind.DONE, b"")
    first, second, reply = fields(*((TO, one) for one in asked), (FROM, done))
    assert "link.retransmission" not in second
    assert (first.get("response_in"), second["response_in"], reply["request_in"]) == (None, 3, 2)


def test_what_a_board_tells_of_itself() -> None:
    look_up = [Syscall(PacketCode.GET_GLOBAL_FUNC, (name,)) for name in ("microrpc.link", "microrpc.features")]
    memory = Syscall(PacketCode.GET_GLOBAL_FUNC, ("microrpc.memory",))
    found = fields(
        (TO, normal(look_up[0])),
        (FROM, normal(Return((OpaqueHandle(LinkParameters(4, 256, 100).handle),)))),
        (TO, normal(look_up[1])),
        (FROM, normal(Return((OpaqueHandle(Features(Feature.EVENTS | Feature.CANCEL, 500, 0xAB).handle),)))),
        (TO, normal(memory)),
        (FROM, normal(Return((OpaqueHandle(6),)))),
        (TO, normal(CallFunc(6, ()))),
        (FROM, normal(Return((12, encode_memory(100, 40, 20, 60))))),
        (TO, normal(CallFunc(LinkParameters(4, 256, 100).handle, ()))),
    )
    assert "function" not in found[8], "what the link is like is no function's handle"
    assert [found[1][f"link.{name}"] for name in ("window_requests", "packet_bytes", "window_bytes")] == [4, 256, 100]
    assert found[3]["features"] == "events, cancel"
    assert (found[3]["features.host_timeout_ms"], found[3]["features.description_hash"]) == (500, 0xAB)
    assert [found[7][f"memory.{name}"] for name in ("heap", "used", "largest_free")] == [100, 40, 20]


def test_events_and_signals() -> None:
    body = encode_event_body(EventMessage(7, True, 1500, "t\xe9", (1, 0.5, "x", b"y")))
    assert only(FROM, encode_event(9, body)) == {
        "kind": "EVENT",
        "event.name": "t\xe9",
        "event.number": 7,
        "event.reliable": True,
        "event.time_us": 1500,
        "argc": 4,
        "arg": ["1", "0.5", "x", "bytes:79"],
        "arg.type": ["Int", "Float", "Str", "Bytes"],
    }
    named = encode_event(9, encode_event_body(EventMessage(7, True, 1500, "t\udcff", ())))
    assert only(FROM, named)["event.name"] == "t\\xff"
    assert only(TO, encode_event_ack(9, EventAck(8, 300, True))) == {
        "kind": "EVENT_ACK",
        "event.wanted": 8,
        "event.credit": 300,
        "event.lost": True,
    }
    assert only(FROM, encode_event_state(9, EventState(0xB007, 3, 8))) == {
        "kind": "EVENT_STATE",
        "event.boot": 0xB007,
        "event.next": 3,
        "event.next_reliable": 8,
    }
    progress = encode_link_message(9, MessageType.LINK_PROGRESS, 5, PROGRESS.pack(3, 10))
    expected = {"kind": "PROGRESS", "link.seq": 5, "progress.done": 3, "progress.total": 10}
    assert only(FROM, progress) == expected
    assert only(TO, encode_link_message(9, MessageType.LINK_CANCEL, 5)) == {"kind": "CANCEL", "link.seq": 5}


# --- what is wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\1\2", {"kind": "?", "malformed": True}),
        (b"\1\2\x30", {"kind": "type 0x30"}),
        (b"\0\1\0\1", {"kind": "INIT", "malformed": True}),
        (b"\0\0\x10\1", {"kind": "?", "malformed": True}),
        (normal(Return(()))[:-1], {"kind": "?", "malformed": True, "code": "Return"}),
        (b"\0\0\x10" + struct.pack("<Qi", 4, -3), {"kind": "?", "malformed": True, "code": "code -3"}),
        (sealed(b"\0\0\x20\1\0"), {"kind": "?", "malformed": True, "link.seq": 1}),
        (sealed(b"\0\0\x20\1\0\x09"), {"kind": "kind 9", "malformed": True, "link.seq": 1, "link.kind": "kind 9"}),
        (sealed(b"\0\0\x20\1\0\1ab"), {"kind": "WRITE", "malformed": True, "link.seq": 1, "link.kind": "WRITE"}),
        (sealed(b"\0\0\x20\1\0\3ab"), {"kind": "CALL", "malformed": True, "link.seq": 1, "link.kind": "CALL"}),
        (sealed(b"\0\0\x21\1\0\1a"), {"kind": "DONE", "malformed": True, "link.seq": 1, "link.kind": "DONE"}),
        (sealed(b"\0\0\x28\0\0a"), {"kind": "KEEP_ALIVE", "malformed": True, "link.seq": 0}),
        (sealed(b"\0\0\x23abcd"), {"kind": "damaged", "damage": "lengths"}),
        (b"\0\0\x23abcd", {"kind": "damaged", "damage": "crc32"}),
        (b"\0\0\x20abcdef", {"kind": "damaged", "damage": "crc32"}),
    ],
)
def test_what_is_no_message_is_told_with_the_little_that_is_known(payload: bytes, expected: dict[str, object]) -> None:
    assert only(TO, payload) == expected


def test_damage_noise_and_text_have_the_packet_in_which_they_end() -> None:
    reader = RecordReader()
    frame = encode_frame(b"\0\0\2")
    pieces = [b"boot\r\nok", b"\0\n" + frame[:4], frame[4:-1] + b"\0", b"\xfe\xff", b"\xfe" + frame[:5], frame]
    found = [record for number, piece in enumerate(pieces, 1) for record in reader.read(number, 0, False, piece)]
    assert [(record.number, fields_of(record)) for record in found] == [
        (1, {"microrpc.kind": "text", "microrpc.text": "boot", "microrpc.outside_size": 6}),
        (1, {"microrpc.kind": "text", "microrpc.text": "ok", "microrpc.outside_size": 2}),
        (2, {"microrpc.kind": "noise", "microrpc.outside_size": 2}),
        (3, {"microrpc.kind": "damaged", "microrpc.damage": "bad crc"}),
        (6, {"microrpc.kind": "damaged", "microrpc.damage": "short packet"}),
        (
            6,
            {
                "microrpc.kind": "TERMINATE",
                "microrpc.payload_size": 3,
                "microrpc.session_id": 0,
                "microrpc.message_type": 2,
            },
        ),
    ]


# --- whatever comes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_recordings_have_nothing_that_is_malformed(name: str) -> None:
    reader = RecordReader()
    records = [
        record
        for number, burst in enumerate(load(name), 1)
        for record in reader.read(number, number, burst.dir == "host", burst.data)
    ]
    check_against_the_table(records)
    assert not any(record.message.problem for record in records)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60))))
def test_any_bytes_give_fields_of_the_table(pieces: list[tuple[bool, bytes]]) -> None:
    reader = RecordReader()
    for number, (to_board, data) in enumerate(pieces):
        check_against_the_table(reader.read(number, number, to_board, data))


TYPES = st.sampled_from([*MessageType, 0x30])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), TYPES, st.booleans(), st.binary(max_size=40))))
def test_any_message_gives_fields_of_the_table(messages: list[tuple[bool, int, int, bool, bytes]]) -> None:
    reader = RecordReader()
    for number, (to_board, session_id, message_type, is_sealed, body) in enumerate(messages):
        payload = struct.pack("<HB", session_id, message_type) + body
        data = encode_frame(sealed(payload) if is_sealed else payload)
        check_against_the_table(reader.read(number, number, to_board, data))


def test_what_is_remembered_is_bounded() -> None:
    reader = RecordReader()
    for seq in range(200):
        payload = encode_link_message(1, MessageType.LINK_REQUEST, seq, b"\2")
        reader.read(seq, seq, True, encode_frame(payload))
    [old] = reader.read(300, 300, True, encode_frame(encode_link_message(1, MessageType.LINK_REQUEST, 135, b"\2")))
    [kept] = reader.read(301, 301, True, encode_frame(encode_link_message(1, MessageType.LINK_REQUEST, 199, b"\2")))
    assert (old.is_retransmission, kept.is_retransmission) == (False, True)
    lookups: list[tuple[bool, bytes]] = []
    for handle in range(1, 1026):
        lookups.append((TO, normal(Syscall(PacketCode.GET_GLOBAL_FUNC, (f"f{handle}",)))))
        lookups.append((FROM, normal(Return((OpaqueHandle(handle),)))))
    named = read(*lookups, *((TO, normal(CallFunc(handle, ()))) for handle in (1, 2, 1025)))
    assert [one.function for one in named[-3:]] == ["", "f2", "f1025"]
    assert read_message(b"").kind == "?"
