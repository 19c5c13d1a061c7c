"""A board with MicroPython (1.20 and later), whose functions and memory Python on a computer uses.

docs/micropython.md of microrpc tells how, and its protocol.md, link.md and device.md what is done here and why.
microrpc_parts.py belongs to it.
"""

import os
import select
import struct
import sys
import time

import microrpc_parts as parts
from microrpc_parts import SYSTEM_LIBRARY, Failure, Tensor, check, crc32, take

_TERMINATE, _LOG, _NORMAL, _REQUEST, _NAK, _EVENT, _EVENT_ACK, _KEEP_ALIVE = 2, 3, 16, 32, 34, 35, 36, 40  # messages
_RUNTIME_FUNCTIONS = 9


class Device:
    """A board whose functions a host calls, over `uart`, a machine.UART, or the port of the REPL.

    memory_bytes is what hosts may allocate, packet_bytes the largest message, at least 128, and ring_bytes what the
    port takes while a function runs; name, firmware and version are what hosts show.
    """

    def __init__(
        self, uart=None, *, memory_bytes=16384, packet_bytes=1024, ring_bytes=256, name="", firmware="", version=""
    ):
        check(128 <= packet_bytes < 1 << 24 > ring_bytes, "packet_bytes is at least 128, and ring_bytes below 2^24")
        self._uart, self._heap, self._poll = uart, parts.Heap(memory_bytes & -8), select.poll()
        self._poll.register(uart or sys.stdin, select.POLLIN)
        self._read, self._write = (uart or sys.stdin.buffer).read, (uart or sys.stdout.buffer).write
        self._waiting = getattr(uart, "any", lambda: 1)  # the port of the REPL gives what it is asked for, or waits
        self._interrupt = (lambda byte: None) if uart else __import__("micropython").kbd_intr
        self._identity, self._packet_bytes, self._ring_bytes = (name, firmware, version), packet_bytes, ring_bytes
        self._frames = parts.Frames(packet_bytes, self._take_message, self._complain, self.log)
        self.receive = self._frames.receive
        self._start, self._used, self._made = b"\xfe\xff\xfd", 0, []
        seed = os.urandom(4) if hasattr(os, "urandom") else struct.pack("<I", time.time_ns() // 1000 & 0xFFFFFFFF)
        self._nonce, self._boot = seed[0], struct.unpack("<I", seed)[0]
        self._events, self._words, self._ticks, self._us, self._heard_us = 0, 0, time.ticks_us(), 0, 0
        self._registries = [], []  # TVM's global one, and its system library: of (name, call, signature, doc)
        self._begin_session(0)
        for known, call in (
            ("runtime.SystemLib", lambda given: (9, SYSTEM_LIBRARY)),
            ("tvm.rpc.server.ModuleGetFunction", self._get_function),
            ("tvm.rpc.server.GetCRTMaxPacketSize", lambda given: packet_bytes - 11),
            ("tvm.contrib.random.random_fill", self._random_fill),
            ("runtime.RPCTimeEvaluator", self._time_evaluator),
            ("microrpc.crc32", lambda given: crc32(take(given, "Tensor")[0].data)),
            ("microrpc.release_all", self._release_all),
            ("microrpc.describe", self._describe),
            ("microrpc.memory", lambda given: self._heap.report()),
        ):
            self._registries[0].append((known.encode(), call, "", ""))
        self._tell(_TERMINATE)

    def function(self, signature="", *, doc="", name="", is_global=False):
        """Decorate a function that hosts may call; `signature` as in "x: float32[n], factor: float -> None".

        Arguments are checked by it, and those with a default may be missing. is_global: it is in TVM's global registry.
        It gives None, a number, a text, bytes, a tensor, a function, or a tuple of a type code and a handle.
        """
        if callable(signature):
            return self.function()(signature)
        kinds = parts.Kinds(signature)

        def decorate(function):
            def call(arguments):
                return function(*kinds.take(arguments))

            known = (name or function.__name__).encode()
            self._registries[not is_global].append((known, call, signature, doc))
            return function

        return decorate

    def tensor(self, shape, dtype="float32"):
        """Give a new tensor of zeros, for a function to return."""
        check(self._used, "a tensor is made by the function that gives it")
        size = parts.size_of(shape, struct.calcsize(parts.FORMATS[dtype]))
        address = self._heap.alloc(size, 8, parts.ARRAY)
        self._made.append(address)
        return Tensor(self._heap.view(address, size), tuple(shape), dtype, address)

    def event(self, name, *values):
        """Tell the host of something, with ints, floats, texts and bytes; give whether it wants to know (link 8)."""
        body = parts.event_body(self._events, self.now_us(), name, values)
        cost = len(body) + 7
        if cost > min(self._packet_bytes, 4096):
            return False
        self._events = self._events + 1 & 0xFFFFFFFF
        if cost > self._credit:
            return False
        self._credit -= cost
        self._tell(_EVENT, body)
        return True

    def log(self, text, level="info"):
        """Send a line to the host's log, with the time and a level (debug, info, warning, error), or bare with None."""
        us = self.now_us()
        head = f"[{level[0].upper()} {us // 1000000:04d}.{us % 1000000:06d}] " if level else ""
        self._tell(_LOG, (head + text).encode())

    def now_us(self):
        """Give the board's time in microseconds, modulo 2^32."""
        ticks, before = time.ticks_us(), self._ticks
        self._ticks, self._us = ticks, self._us + time.ticks_diff(ticks, before) & 0xFFFFFFFF
        return self._us

    def poll(self, timeout_ms=0):
        """Serve what has come, or comes within this time; give whether anything came."""
        check(not self._used, "a function cannot poll")
        self._interrupt(-1)  # a byte of 3 is a byte
        data, waits_ms = b"", {b"": timeout_ms, b"\r": 2, b"\3": 20}
        try:
            while len(data) < 64 and data != b"\r\3" and self._poll.poll(waits_ms.get(data, 0)):
                read = self._read(min(self._waiting(), 64) or 1)
                if not read:
                    break
                data += read
            pause_us = self.now_us() - self._heard_us & 0xFFFFFFFF
            self._heard_us = self._us if data else self._heard_us
            if data in (b"\3", b"\r\3") and pause_us > 100000 and not self._uart:
                self._interrupt(3)
                raise KeyboardInterrupt  # so a program is stopped, by hand or by mpremote; no host says it
            self.receive(data)
        except MemoryError:  # there is none for the answer: the host asks again
            self._used = 0
        return bool(data)

    def run(self):
        """Serve for ever; at the port of the REPL until mpremote wants to have it."""
        while True:
            self.poll(1000)

    def _complain(self):
        if self._is_active and not self._has_complained:
            self._has_complained = True
            self._tell(_NAK, struct.pack("<H", self._base))

    def _tell(self, kind, body=b""):
        payload = struct.pack("<HB", 0 if kind in (_TERMINATE, _LOG) else self._session, kind) + body
        if kind >= _REQUEST:
            payload += struct.pack("<I", crc32(payload))
        frame, self._start, since_us = memoryview(self._start + parts.frame_of(payload)), b"\xff\xfd", time.ticks_us()
        while frame and time.ticks_diff(time.ticks_us(), since_us) < 1000000:  # or nothing was taken for a second
            count = self._write(frame) or 0
            frame, since_us = frame[count:], time.ticks_us() if count else since_us
            time.sleep_ms(0 if count else 1)

    def _begin_session(self, initiator):
        """Begin the session of a host with this nonce; 0: the last one has ended."""
        self._session, self._is_shut_down, self._credit, self._base, self._done = 0, False, 0, 0, 0
        self._last, self._kept, self._is_active, self._has_complained = -1, b"", False, False
        if initiator:
            self._nonce = ((self._nonce << 5 | self._nonce >> 5) + 1) & 255
            self._session = initiator | self._nonce << 8
            self._tell(1, b"\1")

    def _take_message(self, payload):
        if len(payload) < 3:
            return
        session, kind = struct.unpack_from("<HB", payload)
        if kind == 0 and 0 < session < 256 and payload[3:] == b"\1":
            self._begin_session(session)
        elif kind == _TERMINATE and len(payload) == 3 and session in (0, self._session):
            self._begin_session(0)
        elif kind == _NORMAL and session and session == self._session:
            self._take_packets(parts.Cursor(payload, 3))
        elif kind in (_REQUEST, _EVENT_ACK, _KEEP_ALIVE) and not self._session:
            self._tell(_TERMINATE)  # the host has missed the boot
        elif kind in (_REQUEST, _EVENT_ACK, _KEEP_ALIVE) and session == self._session:
            size = len(payload)
            fits = size >= 10 and payload[5] < 3 if kind == _REQUEST else size == (14 if kind == _EVENT_ACK else 9)
            if not fits or crc32(payload[:-4]) != struct.unpack_from("<I", payload, size - 4)[0]:
                self._complain()
                return
            self._has_complained = False
            if kind == _REQUEST:
                self._is_active = True
                self._take_request(payload[6:-4], size, *struct.unpack_from("<HB", payload, 3))
            elif kind == _KEEP_ALIVE:
                self._tell(kind, bytes(payload[3:5]))
            else:
                self._credit = struct.unpack_from("<H", payload, 7)[0]
                self._tell(37, struct.pack("<III", self._boot, self._events, 0))

    def _take_packets(self, cursor):
        while cursor.at < len(cursor.data) and not self._is_shut_down:
            try:
                packet = cursor.blob()
            except Failure:
                packet = b"\0"  # malformed, too
            if packet:
                reply = self._serve(packet, len(cursor.data))
                self._is_shut_down = reply is None
                if reply:
                    self._tell(_NORMAL, struct.pack("<Q", len(reply)) + reply)

    def _take_request(self, body, size, seq, kind):
        """Take a LINK_REQUEST (link 3): kind is 0 PACKET, 1 WRITE, 2 READ."""
        ahead = (seq - self._base + 0x8000 & 0xFFFF) - 0x8000
        is_old = ahead < 0 or self._done >> ahead & 1
        if ahead >= 8 or (not kind and (self._is_shut_down or (is_old and seq != self._last))):
            return
        if ahead and not kind and not is_old:
            self._tell(_NAK, struct.pack("<H", self._base))
            return
        if not is_old:  # noted before it runs: whatever happens meanwhile, it must not run twice
            self._done |= 1 << ahead
            while self._done & 1:
                self._done, self._base = self._done >> 1, self._base + 1 & 0xFFFF
        reply = self._kept
        if kind:
            result, reply = self._copy(kind, is_old, body)
        else:
            if not is_old:
                self._last, self._kept = seq, b""
                reply = self._serve(body, size) or parts.exception(Failure("malformed packet"))  # no Shutdown here
                self._kept = reply if len(reply) + 10 <= self._packet_bytes else b""
            result = 0 if reply else 3
        self._tell(33, struct.pack("<HB", seq, result) + reply)

    def _copy(self, kind, is_old, body):
        """Give kind and body of the reply to a WRITE or READ."""
        try:
            check(len(body) == 12 if kind == 2 else len(body) >= 8)
            address, data = struct.unpack_from("<Q", body)[0], body[8:]
            if kind == 2:
                return 2, self._heap.view(address, struct.unpack("<I", data)[0])
            memory = self._heap.view(address, len(data))
            if not is_old:
                memory[:] = data
            return 1, b""
        except Failure as failure:
            return 0, parts.exception(failure)

    def _serve(self, packet, size):
        """Give the reply to a packet in a message of `size` bytes, None for a Shutdown."""
        self._used = size + 7 & -8
        try:
            return self._execute(parts.Cursor(packet))
        except KeyboardInterrupt:  # beside a UART, at the REPL
            raise
        except BaseException as error:  # whatever a function raises, the host learns of it
            return parts.exception(error)
        finally:
            self._used = 0

    def _execute(self, cursor):
        code = cursor.unpack("i")[0]
        if code == 1 and len(cursor.data) == 4:
            return None
        check(code > 8 or code in (2, 3, 6, 7))
        tensor = cursor.tensor() if code in (6, 7) else None
        first = cursor.unpack("Q")[0] if code in (3, 6) else cursor.blob() if code in (2, 7) else None
        kinds, values = ([], []) if tensor else cursor.values()
        check(cursor.at == len(cursor.data))
        handle = None
        if code == 3:
            return self._call(first, kinds, values)
        if code == 6:
            return struct.pack("<i", 8) + self._heap.view(tensor[0], first)
        if code == 7:
            self._heap.view(tensor[0], len(first))[:] = first
        elif code == 2:
            check(not values, "Server has already been initialized")
            version = bytes(first).split(b"\0")[0]
            check(version == b"0.8.0", "protocol version mismatch: this device speaks 0.8.0")
        else:
            handle = self._syscall(code, kinds, values)
        return parts.packet(4, (4,)) if handle is None else parts.packet(4, (3,), "Q", handle)

    def _syscall(self, code, kinds, values):
        """Give the handle that is the reply, or None."""
        check(code <= 20, f"unknown packet code {code}")
        fits = kinds == parts.SYSCALLS[code - 9] or (code == 17 and kinds == [7, 4])
        check(fits, f"wrong arguments of packet code {code}")
        check(code not in (11, 12), ("SetDevice" if code == 11 else "GetAttr") + " not supported")
        if code == 9:
            if values[0] == b"microrpc.link":
                return 1 | 8 << 8 | self._packet_bytes << 16 | self._ring_bytes << 40
            if values[0] == b"microrpc.features":  # events, description, memory
                return 1 | 0x31 << 8 | crc32(self._tell_all()) << 32
            return self._look_up(0, values[0])
        if code == 10:
            handle, kind = values
            is_static = handle == SYSTEM_LIBRARY if kind == 9 else kind == 10 and handle >> 63 and self._find(handle)
            is_freed = is_static or self._heap.release(handle, {10: parts.OBJECT, 13: parts.ARRAY}.get(kind))
            check(is_freed, f"no object of type {kind} has the handle 0x{handle:x}")
        elif code == 16:
            check(values[0][1] == values[1][1], "the tensors have different sizes")
            source = bytes(self._heap.view(*values[0][:2]))
            self._heap.view(*values[1][:2])[:] = source
        else:
            device = values[0][4] if code == 17 else values[0]
            check(device == (1, 0), f"there is no device {device} here, only the CPU (1, 0)")
            if code == 13:
                return self._heap.alloc(values[1], values[2], parts.DATA)
            if code == 17:
                check(values[1] in (None, b"", b"global"), "there is no such memory scope here")
                return self._heap.alloc(values[0][1], parts.alignment_of(values[0][3]), parts.DATA)
            if code == 14:
                is_freed = self._heap.release(values[1], parts.DATA)
                check(is_freed, f"cannot free 0x{values[1]:x}: no block begins there")
        return 0 if code == 18 else None

    def _look_up(self, registry, name):
        """Give the handle of a function, or 0."""
        names = [known[0] for known in self._registries[registry]]
        return parts.STATIC + (registry << 32) + names.index(name) if name in names else 0

    def _find(self, handle):
        """Give the function that has a handle, or None."""
        if handle < parts.STATIC:
            return (self._heap.begin(handle, parts.OBJECT) or (None,))[-1]
        registry, index = handle - parts.STATIC >> 32, handle & 0xFFFFFFFF
        known = self._registries[registry] if registry < 2 else ()
        return known[index][1] if index < len(known) else None

    def _argument(self, index, kind, value):
        """Give an argument as functions have it."""
        if kind == 7:
            address, size, shape, dtype, _ = value
            data = self._heap.view(address, size)
            return Tensor(data, shape, parts.dtype_of(index, dtype, address), address)
        if kind in (9, 10):
            good = value == SYSTEM_LIBRARY if kind == 9 else self._find(value)
            check(good, f"no function or module has the handle 0x{value:x}; look it up again")
        return str(value, "utf-8") if kind == 11 else value if kind in (0, 2, 4, 12) else (kind, value)

    def _call(self, handle, kinds, values):
        function = self._find(handle)
        check(function, f"no function or module has the handle 0x{handle:x}; look it up again")
        arguments = [self._argument(index, kind, values[index]) for index, kind in enumerate(kinds)]
        try:
            return self._result(function(arguments))
        finally:
            self._drop()

    def _drop(self):
        """Free the tensors that were made for nothing."""
        while self._made:
            self._heap.release(self._made.pop(), parts.ARRAY)

    def _result(self, value):
        """Give the Return of a call."""
        if isinstance(value, Tensor):
            if value.address not in self._made:  # it is an argument, or another's
                value, data = self.tensor(value.shape, value.dtype), value.data
                value.data[:] = data
            self._made.remove(value.address)
        elif callable(value):
            value = 10, self._heap.alloc(64, 8, parts.OBJECT, lambda given, function=value: function(*given))
        return parts.result(value)

    def _get_function(self, given):
        handle = self._look_up(1, take(given, "Module", "Str")[1].encode())
        return (10, handle) if handle else None

    def _time_evaluator(self, given):
        name, prepare, numbers = parts.read_evaluator(given)
        timed, before = self._find(self._look_up(1, name.encode())), self._find(self._look_up(0, prepare.encode()))
        is_known = timed and (not prepare or (before and prepare != "microrpc.release_all"))
        check(is_known, "RPCTimeEvaluator: no function has that name")
        check(numbers[0] and numbers[1], "RPCTimeEvaluator: number and repeat must be positive")

        def evaluate(*given):
            def call():
                timed(given)
                self._drop()

            check(8 * numbers[1] <= self._packet_bytes - self._used, "the result is too long")
            return parts.time_calls(call, before and (lambda: before(given)), *numbers)

        return evaluate

    def _random_fill(self, given):
        self._words = parts.random_fill(take(given, "Tensor")[0], self._words)

    def _release_all(self, given):
        freed = sum(block[1] for block in self._heap.blocks)
        self._heap.blocks.clear()
        return freed

    def _tell_all(self):
        """Give all that the hash of the description is of (description 2)."""
        functions = self._registries[1] + self._registries[0][_RUNTIME_FUNCTIONS:]
        lines = [self._identity] + [(name.decode(), signature, doc) for name, _, signature, doc in functions]
        return b"".join([parts.line(line) for line in lines])

    def _describe(self, given):
        offset, body, room = take(given, "Int")[0], self._tell_all(), self._packet_bytes - self._used
        told = f"microrpc\t1\t{crc32(body):08x}\t{len(body)}\t".encode() + body
        left = told[min(offset, len(told)) :] if offset >= 0 else b""
        check(room >= min(len(left), 32), "the result is too long")
        return left[:room]
