"""The hot path in pure Python: what `_fastpath.pyi` promises, written to be read.

The compiled module has to do what this one does; both run under the same tests. This one copies where the
other maps and points. `mmap` keeps a descriptor of its own for a shared ring.
"""

from __future__ import annotations  # Buffer is a name for the type checker only

import errno
import mmap
import os
import struct
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, final

if TYPE_CHECKING:
    from typing_extensions import Buffer

Tag = TypeVar("Tag")

COMPILED: Final = False

MORE: Final = 0
FAST: Final = 1
SLOW: Final = 2
OVERFLOW: Final = 3

MUX_HEADER_BYTES: Final = 8
MAX_LINK_PAYLOAD_BYTES: Final = 65_520
GUARD_BYTES: Final = 16_384
FREE: Final = 2**63 - 1

FINAL_BINARY = 0x82  # FIN, no RSV bits, opcode 2
MASKED = 0x80
OUTPUT = 1

MUX_HEADER = struct.Struct("!BBHL")  # kind, flags, reserved, stream


# ---- Buffers of the caller


def hold_range(buf: Buffer, start: int, end: int) -> memoryview:
    """Return the bytes of `buf`, whatever its items are, once the range is known to be inside."""
    held = memoryview(buf)
    if not held.c_contiguous:
        raise BufferError("the buffer is not contiguous")
    held = held.cast("B")
    if not 0 <= start <= end <= len(held):
        raise IndexError(f"range {start}:{end} is not inside the buffer of {len(held)} bytes")
    return held


def require_not_negative(name: str, value: int) -> None:
    """Raise ValueError for a negative size or offset."""
    if value < 0:
        raise ValueError(f"{name} is {value}, must not be negative")


# ---- WebSocket frames, RFC 6455 section 5.2


def read_length(frame: memoryview) -> tuple[int, int, int]:
    """Read the length of any frame: (status, header bytes without the key, payload bytes)."""
    if len(frame) < 2:
        return MORE, 0, 0
    length = frame[1] & 0x7F
    if length < 126:
        return FAST, 2, length
    header_bytes = 4 if length == 126 else 10
    if len(frame) < header_bytes:
        return MORE, 0, 0
    payload_bytes = int.from_bytes(frame[2:header_bytes], "big")
    return (FAST if payload_bytes < 2**63 else SLOW), header_bytes, payload_bytes


def scan_frame(
    buf: Buffer, start: int, end: int, masked: bool, max_payload_bytes: int
) -> tuple[int, int, int, int]:
    """Judge the frame that starts at `start`: (status, payload start, payload end, mask)."""
    require_not_negative("max_payload_bytes", max_payload_bytes)
    more, slow = (MORE, start, start, 0), (SLOW, start, start, 0)
    frame = hold_range(buf, start, end)[start:end]
    if len(frame) == 0:
        return more
    if frame[0] != FINAL_BINARY:
        return slow
    if len(frame) == 1:
        return more
    if bool(frame[1] & MASKED) != masked:
        return slow
    status, header_bytes, payload_bytes = read_length(frame)
    if status == MORE:
        return more
    least = {2: 0, 4: 126, 10: 65_536}[header_bytes]
    if status == SLOW or not least <= payload_bytes <= max_payload_bytes:
        return slow
    mask = 0
    if masked:
        mask = int.from_bytes(frame[header_bytes : header_bytes + 4], "big")
        header_bytes += 4
    if len(frame) < header_bytes + payload_bytes:
        return more
    start += header_bytes
    return FAST, start, start + payload_bytes, mask


def frame_extent(buf: Buffer, start: int, end: int) -> int:
    """Tell how many bytes the frame at `start` has; 0: not known yet, -1: broken."""
    frame = hold_range(buf, start, end)[start:end]
    status, header_bytes, payload_bytes = read_length(frame)
    if status != FAST:
        return 0 if status == MORE else -1
    return header_bytes + (4 if frame[1] & MASKED else 0) + payload_bytes


def frame_opening(buf: Buffer, start: int) -> tuple[bool, int]:
    """Read FIN and the opcode of the frame that starts at `start`."""
    first = hold_range(buf, start, start + 1)[start]
    return bool(first & 0x80), first & 0x0F


def unmasked(data: Buffer, mask: int) -> bytes:
    """XOR with a masking key, as one large number."""
    n_bytes = len(memoryview(data))
    key = mask.to_bytes(4, "big") * (n_bytes // 4 + 1)
    number = int.from_bytes(data, "little") ^ int.from_bytes(key[:n_bytes], "little")
    return number.to_bytes(n_bytes, "little")


def unmask(buf: Buffer, start: int, end: int, mask: int) -> None:
    """Apply a masking key to a range, in place."""
    held = hold_range(buf, start, end)
    if held.readonly:
        raise BufferError("the buffer is read-only")
    held[start:end] = unmasked(held[start:end], mask)


def frame_header(payload_bytes: int) -> bytes:
    """Make the header of an unmasked, final binary frame."""
    require_not_negative("payload_bytes", payload_bytes)
    return _frame_header(payload_bytes, 0)


def _frame_header(payload_bytes: int, mask: int) -> bytes:
    masked = MASKED if mask else 0
    key = mask.to_bytes(4, "big") if mask else b""
    if payload_bytes < 126:
        return struct.pack("!BB", FINAL_BINARY, masked | payload_bytes) + key
    if payload_bytes < 65_536:
        return struct.pack("!BBH", FINAL_BINARY, masked | 126, payload_bytes) + key
    return struct.pack("!BBQ", FINAL_BINARY, masked | 127, payload_bytes) + key


@final
class MaskSource:
    """Masking keys: random, never zero, drawn in bulk."""

    def __init__(self) -> None:
        self._drawn = b""

    def next(self) -> int:
        """Return the next key."""
        mask = 0
        while mask == 0:
            if not self._drawn:
                self._drawn = os.urandom(4096)
            mask = int.from_bytes(self._drawn[:4], "big")
            self._drawn = self._drawn[4:]
        return mask


# ---- Rings

HEADER_PAGE_BYTES = 4096
RING_MAGIC = 0x31474E4952524741
MIN_RING_BYTES = 65_536
MIN_SHARED_BYTES = 131_072
MAX_RING_BYTES = 1 << 30
SHORT_READ_BYTES = 2048  # a read that gives less has emptied a PTY

# Words of the header, docs/protocol.md section 4.1; FIRST is the first byte since the ring was emptied.
MAGIC, RING_BYTES, HEAD, KEEP, INPUT_APPLIED, FIRST = range(6)
N_WORDS = 6


def check_capacity(capacity_bytes: int, least: int) -> None:
    """Raise ValueError for a size that a ring cannot have."""
    if not least <= capacity_bytes <= MAX_RING_BYTES or capacity_bytes & (capacity_bytes - 1):
        limits = f"a power of two from {least} to {MAX_RING_BYTES}"
        raise ValueError(f"a ring of {capacity_bytes} bytes: must be {limits}")


@final
class ByteRing:
    """Bytes of one session by offset; the byte at offset n is at n % capacity_bytes of the data."""

    _memory: mmap.mmap
    _words: memoryview
    _data_at: int
    _capacity: int
    _guard: int
    _prepared: bool
    _closed: bool
    _eof: bool

    def __init__(self, capacity_bytes: int, *, offset: int = 0) -> None:
        check_capacity(capacity_bytes, MIN_RING_BYTES)
        require_not_negative("offset", offset)
        self._attach(mmap.mmap(-1, capacity_bytes), bytearray(8 * N_WORDS), capacity_bytes)
        self._data_at = 0
        self._guard = 0
        self._prepared = True
        self._words[HEAD] = self._words[FIRST] = offset
        self._words[KEEP] = FREE

    @classmethod
    def shared(cls, fd: int) -> Self:
        """Map ring memory that the keeper made."""
        header = os.pread(fd, 8 * N_WORDS, 0)
        if len(header) < 8 * N_WORDS:
            raise ValueError(f"not ring memory: {len(header)} bytes of header")
        words = struct.unpack(f"={N_WORDS}Q", header)
        capacity_bytes = words[RING_BYTES]
        if words[MAGIC] != RING_MAGIC:
            raise ValueError(f"not ring memory: the magic number is {words[MAGIC]:#x}")
        check_capacity(capacity_bytes, MIN_SHARED_BYTES)
        if words[HEAD] > FREE:
            raise ValueError(f"broken ring memory: head is {words[HEAD]}")
        if os.fstat(fd).st_size < HEADER_PAGE_BYTES + capacity_bytes:
            raise ValueError(f"broken ring memory: the file is too small for {capacity_bytes} bytes")
        ring = cls.__new__(cls)
        memory = mmap.mmap(fd, HEADER_PAGE_BYTES + capacity_bytes)
        ring._attach(memory, memory, capacity_bytes)
        ring._data_at = HEADER_PAGE_BYTES
        ring._guard = GUARD_BYTES
        ring._prepared = False
        return ring

    def _attach(self, memory: mmap.mmap, words: Buffer, capacity_bytes: int) -> None:
        self._memory = memory
        self._words = memoryview(words)[: 8 * N_WORDS].cast("Q")
        self._capacity = capacity_bytes
        self._closed = False
        self._eof = False

    # -- Memory: two pieces where a range wraps around

    def _pieces(self, offset: int, n_bytes: int) -> list[slice]:
        at = offset % self._capacity
        first = min(n_bytes, self._capacity - at)
        start = self._data_at + at
        return [slice(start, start + first), slice(self._data_at, self._data_at + n_bytes - first)]

    def _peek(self, offset: int, n_bytes: int) -> bytes:
        first, second = self._pieces(offset, n_bytes)
        return self._memory[first] + self._memory[second]

    def _poke(self, offset: int, data: Buffer) -> None:
        held = memoryview(data).cast("B")
        first, second = self._pieces(offset, len(held))
        cut = first.stop - first.start
        self._memory[first] = held[:cut].tobytes()
        self._memory[second] = held[cut:].tobytes()

    def _count(self, n_bytes: int) -> None:
        # The guard before head: killed in between, old bytes would be where recover() expects the guard.
        head = self._words[HEAD]
        if self._guard:
            self._poke(head + GUARD_BYTES, b"\xff" * n_bytes)
        self._words[HEAD] = head + n_bytes

    def _write(self, data: Buffer) -> None:
        held = memoryview(data).cast("B")
        step = self._guard or max(1, len(held))
        for start in range(0, len(held), step):
            piece = held[start : start + step]
            self._poke(self._words[HEAD], piece)
            self._count(len(piece))

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the ring is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if not self._prepared:
            raise ValueError("call recover() before writing into a shared ring: its guard may not be filled")

    def _check_range(self, start: int, end: int) -> None:
        if not self.base <= start <= end <= self.head:
            raise IndexError(
                f"range {start}:{end} is not inside the ring, which holds {self.base}:{self.head}"
            )

    # -- Public

    @property
    def capacity_bytes(self) -> int:
        """Size of the data memory."""
        return self._capacity

    @property
    def head(self) -> int:
        """Offset of the next byte."""
        self._check_open()
        return self._words[HEAD]

    @property
    def base(self) -> int:
        """Offset of the oldest byte that can be read."""
        oldest = max(self.head - (self._capacity - self._guard), self._words[FIRST])
        return min(oldest, self.head)

    @property
    def room_bytes(self) -> int:
        """How many bytes may be appended now."""
        kept = min(max(self.keep, self.base), self.head)
        return self._capacity - self._guard - (self.head - kept)

    @property
    def keep(self) -> int:
        """Offset of the oldest byte that must not be overwritten."""
        self._check_open()
        return self._words[KEEP]

    @keep.setter
    def keep(self, offset: int) -> None:
        self._check_open()
        require_not_negative("keep", offset)
        self._words[KEEP] = offset

    @property
    def input_applied(self) -> int:
        """Input bytes written to the PTY so far."""
        self._check_open()
        return self._words[INPUT_APPLIED]

    @input_applied.setter
    def input_applied(self, n_bytes: int) -> None:
        self._check_open()
        require_not_negative("input_applied", n_bytes)
        self._words[INPUT_APPLIED] = n_bytes

    @property
    def eof(self) -> bool:
        """Whether `read_fd` has met the end."""
        return self._eof

    def append(self, data: Buffer) -> None:
        """Append all of `data`, or nothing and raise BufferError."""
        self._check_writable()
        held = hold_range(data, 0, 0)
        if len(held) > self.room_bytes:
            raise BufferError(f"{len(held)} bytes do not fit, there is room for {self.room_bytes}")
        self._write(held)

    def view(self, start: int, end: int) -> memoryview:
        """Return the bytes from `start` up to `end`; here a copy."""
        self._check_range(start, end)
        return memoryview(self._peek(start, end - start))

    def read_fd(self, fd: int, max_bytes: int) -> int:
        """Read from a non-blocking descriptor straight into the ring."""
        self._check_writable()
        require_not_negative("max_bytes", max_bytes)
        total = 0
        while ask := min(self.room_bytes, max_bytes - total, self._guard or max_bytes):
            try:
                with memoryview(self._memory) as memory:
                    got = os.readv(fd, [memory[piece] for piece in self._pieces(self.head, ask)])
            except OSError as error:
                if error.errno == errno.EIO:
                    self._eof = True
                elif error.errno != errno.EAGAIN and total == 0:
                    raise
                break
            if got == 0:
                self._eof = True
                break
            self._count(got)
            total += got
            if got < SHORT_READ_BYTES:
                break
        return total

    def recover(self) -> int:
        """Count the bytes that a killed writer left behind head, and fill the guard again."""
        self._check_open()
        if not self._guard:
            raise ValueError("only a shared ring is recovered")
        found = self._peek(self.head, min(GUARD_BYTES, self.room_bytes)).rstrip(b"\xff")
        self._count(len(found))
        self._prepared = True
        return len(found)

    def restart(self, offset: int) -> None:
        """Empty the ring; the next byte is at `offset`."""
        self._check_open()
        require_not_negative("offset", offset)
        self._poke(offset, b"\xff" * self._guard)
        if self.keep != FREE:
            self._words[KEEP] = offset
        self._words[FIRST] = offset
        self._words[HEAD] = offset
        self._prepared = True
        self._eof = False

    def release_memory(self) -> None:
        """Give the pages back to the system; base becomes head."""
        self._check_writable()
        head = self.head
        if max(self.keep, self.base) < head:
            raise BufferError(f"bytes from {self.keep} up to {head} must be kept")
        self._words[FIRST] = head
        # Only whole pages outside the guard, which must never be seen without its fill.
        page = mmap.PAGESIZE
        start = -(-(head % self._capacity + self._guard) // page) * page
        end = (head % self._capacity + self._capacity) // page * page
        for piece in self._pieces(start, end - start):
            if piece.stop > piece.start:
                self._memory.madvise(mmap.MADV_REMOVE, piece.start, piece.stop - piece.start)

    def close(self) -> None:
        """Give up the memory."""
        if not self._closed:
            self._closed = True
            self._words.release()
            self._memory.close()


# ---- The link, sending


def pack_output(
    out: Buffer, pos: int, ring: ByteRing, start: int, end: int, stream: int, masks: MaskSource
) -> tuple[int, int]:
    """Pack a range of the ring as masked OUTPUT frames into `out` from `pos`; return (new pos, new start)."""
    ring._check_range(start, end)
    held = hold_range(out, pos, pos)
    if held.readonly:
        raise BufferError("the buffer is read-only")
    while start < end:
        room = len(held) - pos
        # Headers have 8 bytes with the masking key, below a payload of 126 bytes only 6.
        most = min(max(room - 8, min(room - 6, 125)), MAX_LINK_PAYLOAD_BYTES)
        n_bytes = min(most - MUX_HEADER_BYTES, end - start)
        if n_bytes <= 0:
            break
        frame = pack_frame(OUTPUT, stream, ring.view(start, start + n_bytes), masks)
        held[pos : pos + len(frame)] = frame
        pos += len(frame)
        start += n_bytes
    return pos, start


def pack_frame(kind: int, stream: int, data: Buffer, masks: MaskSource | None) -> bytes:
    """Make one mux frame as a whole WebSocket frame, masked if there are `masks`."""
    held = hold_range(data, 0, 0)
    if len(held) > MAX_LINK_PAYLOAD_BYTES - MUX_HEADER_BYTES:
        raise ValueError(f"{len(held)} bytes are too many for one mux frame")
    # Not struct, whose error for a number out of range is not OverflowError.
    payload = kind.to_bytes(1, "big") + bytes(3) + stream.to_bytes(4, "big") + held
    mask = masks.next() if masks else 0
    return _frame_header(len(payload), mask) + unmasked(payload, mask)


# ---- The link, receiving


class _Stream(Generic[Tag]):
    def __init__(self, ring: ByteRing, tag: Tag) -> None:
        self.ring = ring
        self.tag = tag
        self.limit = FREE
        self.skip = 0


@final
class MuxReceiver(Generic[Tag]):
    """HQ's receiving half of a link."""

    def __init__(self, masked: bool, max_payload_bytes: int) -> None:
        require_not_negative("max_payload_bytes", max_payload_bytes)
        self._masked = masked
        self._max_payload_bytes = max_payload_bytes
        self._streams: dict[int, _Stream[Tag]] = {}
        self._touched: list[_Stream[Tag]] = []
        self._frames = 0
        self._output_bytes = 0

    @property
    def frames(self) -> int:
        """OUTPUT frames taken so far."""
        return self._frames

    @property
    def output_bytes(self) -> int:
        """Bytes put into rings so far."""
        return self._output_bytes

    def _known(self, stream: int) -> _Stream[Tag]:
        if stream not in self._streams:
            raise KeyError(f"stream {stream} is not open")
        return self._streams[stream]

    def open(self, stream: int, ring: ByteRing, tag: Tag) -> None:
        """Put OUTPUT of `stream` into `ring` from now on."""
        stream.to_bytes(4, "big")
        ring._check_writable()
        if stream in self._streams:
            raise ValueError(f"stream {stream} is open already")
        self._streams[stream] = _Stream(ring, tag)

    def close(self, stream: int) -> None:
        """Forget a stream."""
        self._known(stream)
        del self._streams[stream]

    def set_limit(self, stream: int, limit_offset: int) -> None:
        """Let only bytes before `limit_offset` into the ring."""
        require_not_negative("limit_offset", limit_offset)
        self._known(stream).limit = limit_offset

    def skip(self, stream: int, n_bytes: int) -> None:
        """Drop the next bytes of a stream."""
        require_not_negative("n_bytes", n_bytes)
        self._known(stream).skip = n_bytes

    def receive(self, buf: Buffer, start: int, end: int) -> tuple[int, int]:
        """Take OUTPUT frames into their rings up to one that is something else; return (pos, status)."""
        held = hold_range(buf, start, end)
        while True:
            status, payload_start, payload_end, mask = scan_frame(
                held, start, end, self._masked, self._max_payload_bytes
            )
            if status == FAST:
                status = self._take(unmasked(held[payload_start:payload_end], mask))
            if status != FAST:
                return start, status
            start = payload_end

    def _take(self, payload: bytes) -> int:
        if len(payload) < MUX_HEADER_BYTES:
            return SLOW
        kind, flags, reserved, stream_id = MUX_HEADER.unpack_from(payload)
        stream = self._streams.get(stream_id)
        if kind != OUTPUT or flags or reserved or stream is None or stream.ring._closed:
            return SLOW
        n_bytes = len(payload) - MUX_HEADER_BYTES
        skipped = min(stream.skip, n_bytes)
        data = payload[MUX_HEADER_BYTES + skipped :]
        if data:
            ring = stream.ring
            if len(data) > ring.room_bytes or ring.head + len(data) > stream.limit:
                return OVERFLOW
            ring._write(data)
            self._output_bytes += len(data)
            if stream not in self._touched:
                self._touched.append(stream)
        stream.skip -= skipped
        self._frames += 1
        return FAST

    def take_touched(self) -> list[Tag]:
        """Return the tags of the streams whose rings got bytes since the last call."""
        tags = [stream.tag for stream in self._touched]
        self._touched.clear()
        return tags


# ---- Direct writes to a socket


def write_frames(fd: int, ring: ByteRing, start: int, end: int, frame_bytes: int) -> tuple[int, bytes]:
    """Send a range of the ring as binary frames until the socket is full; return (position, rest)."""
    if frame_bytes <= 0:
        raise ValueError(f"frame_bytes is {frame_bytes}, must be positive")
    ring._check_range(start, end)
    while start < end:
        stop = min(start + frame_bytes, end)
        frame = frame_header(stop - start) + ring.view(start, stop)
        start = stop
        written = max(write_fd(fd, frame, 0, len(frame)), 0)
        if written < len(frame):
            return start, frame[written:]
    return start, b""


def write_fd(fd: int, buf: Buffer, start: int, end: int) -> int:
    """Send a range of a buffer."""
    try:
        return os.write(fd, hold_range(buf, start, end)[start:end])
    except BlockingIOError:
        return -1


# ---- When to wait for more output

RUN_DRAINS = 4  # an echo, and the prompt or the line after it, are over sooner
SMALL_BYTES = 4096  # what a PTY gives at most in one read
CLOSE_US = 6_000  # with holds of 4 ms and timers of 1 ms, a run goes on through its own holds
LONGEST_HOLD_US = 4_000  # a quarter of the 16 ms that a screen shows one picture
SHORTEST_HOLD_US = 1_000  # the resolution of libuv's timers
MUCH_BYTES = 8192  # the program is so fast that a hold only slows it down
LITTLE_BYTES = 2048  # a longer hold would save more frames
OFF_US = 50_000


@final
class HoldPolicy:
    """Decides when to leave a PTY unread, so that a run of small writes travels in fewer frames."""

    def __init__(self) -> None:
        self._hold_us = LONGEST_HOLD_US
        self._last_us = 0  # when the last drain was, or when the hold after it ends
        self._off_until_us = 0
        self._run = 0
        self._held = False

    def drained(self, now_us: int, n_bytes: int) -> int:
        """Tell after a drain of the PTY how long to leave it unread, in microseconds."""
        close = now_us - self._last_us < CLOSE_US
        after_hold = self._held
        self._held = False
        self._last_us = now_us
        if n_bytes <= 0:
            self._run = 0
            return 0
        if after_hold and n_bytes >= MUCH_BYTES:
            self._hold_us //= 2
            if self._hold_us < SHORTEST_HOLD_US:
                self._hold_us = SHORTEST_HOLD_US
                self._off_until_us = now_us + OFF_US
        elif after_hold and n_bytes < LITTLE_BYTES:
            self._hold_us = min(2 * self._hold_us, LONGEST_HOLD_US)
        if n_bytes >= (MUCH_BYTES if after_hold else SMALL_BYTES):
            self._run = 0
            return 0
        self._run = self._run + 1 if close else 1
        if self._run < RUN_DRAINS or now_us < self._off_until_us:
            return 0
        self._held = True
        self._last_us = now_us + self._hold_us
        return self._hold_us

    def input(self, now_us: int) -> None:
        """Start from the beginning: a person is typing."""
        self._hold_us = LONGEST_HOLD_US
        self._last_us = now_us
        self._off_until_us = 0
        self._run = 0
        self._held = False
