"""A copy over the reliable link: which of its blocks are under way (docs/link.md 4)."""

from __future__ import annotations

from microrpc.errors import ProtocolError, RemoteError
from microrpc.host.job import CopyJob
from microrpc.host.link import LinkHost
from microrpc.host.linkrequest import LinkReply, LinkRequest
from microrpc.wire.link import ReplyKind
from microrpc.wire.packets import RemoteException, decode_packet


class LinkCopy:
    """Sends the blocks of `job` over the link, and takes their answers, in whatever order they come."""

    def __init__(self, host: LinkHost, job: CopyJob) -> None:
        self.job = job
        self._host = host
        self._ranges: dict[int, tuple[int, int]] = {}  # of the blocks that are under way, by seq
        self._prepared: LinkRequest | None = None
        self._failure: RemoteException | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether anything is still to be answered, or to be sent."""
        return bool(self._ranges) or (bool(self.job.todo) and self._failure is None)

    def send(self, now: float) -> bool:
        """Send as many blocks as the window takes; tell whether that was any."""
        job, host, has_sent = self.job, self._host, False
        while job.todo and self._failure is None:
            offset, end = job.todo[0]
            if self._prepared is None:
                self._prepared = self._prepare(offset, min(host.block_bytes, end - offset))
            if not host.try_send(self._prepared, now):
                break
            self._note_sent(self._prepared, offset, end)
            self._prepared, has_sent = None, True
        return has_sent

    def send_beside(self, now: float) -> None:
        """Send as many blocks as the board's ring takes while it executes the PACKET or CALL that is unanswered."""
        todo = self.job.todo
        while todo:
            offset, end = todo[0]
            request = self._host.send_beside(self.job.address + offset, self.job.data[offset:end], now)
            if request is None:
                break
            self._note_sent(request, offset, end)

    def _prepare(self, offset: int, size_bytes: int) -> LinkRequest:
        job, host = self.job, self._host
        if job.to_board:
            return host.prepare_write(job.address + offset, job.data[offset : offset + size_bytes])
        return host.prepare_read(job.address + offset, size_bytes)

    def _note_sent(self, request: LinkRequest, offset: int, end: int) -> None:
        todo, block_end = self.job.todo, offset + request.size_bytes
        todo.popleft()
        self._ranges[request.seq] = offset, block_end
        if block_end < end:
            todo.appendleft((block_end, end))

    def take(self, reply: LinkReply) -> None:
        """Take the answer to a block, if it is that. Raises ProtocolError for what is none."""
        found = self._ranges.pop(reply.seq, None)
        if found is None:
            return
        job, (offset, end) = self.job, found
        if reply.kind is ReplyKind.PACKET:
            self._failure = _exception(reply)
            return
        if not 0 < reply.size_bytes <= end - offset:
            raise ProtocolError("3", f"{job.label} of {end - offset} bytes was answered with {reply.size_bytes}")
        job.accept_link(offset, reply.size_bytes, reply.kind, reply.body)
        if offset + reply.size_bytes < end:
            job.todo.append((offset + reply.size_bytes, end))

    def give_up(self) -> None:
        """Have to do again what is under way: nobody knows what became of it."""
        self.job.todo.extendleft(self._ranges.values())
        self._ranges.clear()

    def check(self) -> None:
        """Raise RemoteError where the board has refused a block."""
        if self._failure is not None:
            raise RemoteError(self._failure.message, code=self.job.label)


def _exception(reply: LinkReply) -> RemoteException:
    packet = decode_packet(reply.body)
    if not isinstance(packet, RemoteException):
        raise ProtocolError("3", f"a copy was answered with {type(packet).__name__}")
    return packet
