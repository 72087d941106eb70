"""The contract of the hot path: frames, rings, the link, direct writes, the hold policy.

The compiled module and its twin `_fastpath_py` both keep it; import `agentrelay.fastpath`, which chooses one.

For every function here:

- A **buffer** is any contiguous object with the buffer protocol. It is used only during the call and never
  kept. `TypeError` if it is not a buffer, `BufferError` if it is not contiguous or must be writable and is
  not.
- A **range** `start, end` needs `0 <= start <= end <= len`, else `IndexError`; nothing past `end` is looked
  at.
- A **mask** is the masking key as the integer whose big-endian bytes are the key on the wire.
- Integers that do not fit in 64 bits raise `OverflowError`, or the error for a value out of range.
- Nothing is thread-safe by itself; everything relies on the GIL and never gives it up.
"""

from types import GenericAlias
from typing import Any, Final, Generic, TypeVar, final

from typing_extensions import Buffer

_Tag = TypeVar("_Tag")

COMPILED: Final[bool]
"""Whether this is the compiled module."""

MORE: Final[int]
"""The frame is not complete: read more."""
FAST: Final[int]
"""A whole, final, unfragmented, well-formed binary frame."""
SLOW: Final[int]
"""Not the fast path's: hand the frame, whole, to the WebSocket library."""
OVERFLOW: Final[int]
"""(`MuxReceiver`) OUTPUT beyond the limit of its stream, or more than the room in its ring."""

MUX_HEADER_BYTES: Final[int]
"""Size of the header of a mux frame, docs/protocol.md section 3.1."""
MAX_LINK_PAYLOAD_BYTES: Final[int]
"""Largest mux frame, header included: with it, every WebSocket header of a full frame has the same size."""
GUARD_BYTES: Final[int]
"""Bytes of 0xFF behind the head of a shared ring, docs/protocol.md section 4.1."""
FREE: Final[int]
"""As `ByteRing.keep`: every byte may be overwritten."""

def scan_frame(
    buf: Buffer, start: int, end: int, masked: bool, max_payload_bytes: int
) -> tuple[int, int, int, int]:
    """Judge the WebSocket frame that starts at `start` (RFC 6455 section 5.2).

    `SLOW` is said as soon as it is known, so also of a frame that is not complete; it stays true for any
    longer range. It is said of any other opcode, FIN=0, RSV bits, wrong masking, a length that is not the
    minimal one and a payload above the maximum.

    Args:
        buf: holds the frame.
        start: where the frame starts.
        end: where the received bytes end.
        masked: whether the peer must mask (it is a client), or must not.
        max_payload_bytes: largest payload for the fast path; not negative.

    Returns:
        `(status, payload_start, payload_end, mask)`, positions in `buf`. The frame ends at `payload_end`.
        `mask` is 0 for unmasked frames. Only `FAST` has a payload; otherwise `(status, start, start, 0)`.

    Raises:
        ValueError: `max_payload_bytes` is negative.
    """

def frame_extent(buf: Buffer, start: int, end: int) -> int:
    """Tell how many bytes the frame at `start` has, header and payload, by what its length field says.

    Frames of every kind, masked or not, minimal length or not. The masking key need not have arrived.

    Returns:
        The size, possibly far more than `end - start`; 0 if the length has not arrived, -1 if it is not one
        (its highest bit is set).
    """

def frame_opening(buf: Buffer, start: int) -> tuple[bool, int]:
    """Read `(fin, opcode)` of the frame at `start`.

    Raises:
        IndexError: there is no byte at `start`.
    """

def unmask(buf: Buffer, start: int, end: int, mask: int) -> None:
    """XOR a range with a masking key, in place; the key's first byte belongs to the byte at `start`.

    Raises:
        OverflowError: `mask` is not a u32.
    """

def frame_header(payload_bytes: int) -> bytes:
    """Make the header of an unmasked, final binary frame, with the minimal length: 2, 4 or 10 bytes.

    Raises:
        ValueError: `payload_bytes` is negative.
    """

@final
class MaskSource:
    """Masking keys: random, drawn from the system 4 KiB at a time, never zero (a zero key does not mask)."""

    def next(self) -> int:
        """Return the next key."""

@final
class ByteRing:
    """Bytes of one session by offset: the newest `capacity_bytes` at most, every range contiguous in memory.

    The ring holds the bytes from `base` up to `head`. The bytes from `keep` on are never overwritten: while
    they fill the ring there is no room.

    **Memory.** The compiled ring maps its memory twice, back to back. Mapping and memory belong to the ring
    and its views together: after `close()` they stay until the last view is gone. The ring holds no file
    descriptor.

    **Shared rings** live in memory that another process keeps (docs/protocol.md section 4.1). Its header is
    the truth for `head`, `keep` and `input_applied`, and for how far `restart` and `release_memory` moved
    `base`: every ring object over the same memory sees the same, and what is killed loses nothing. Bytes are
    in place before `head` counts them. The `GUARD_BYTES` behind `head` are always filled with 0xFF and are no
    room. Only one process may write; before its first write it calls `recover()`.

    Once closed, everything but `close()`, `capacity_bytes` and `eof` raises `ValueError`.
    """

    def __init__(self, capacity_bytes: int, *, offset: int = 0) -> None:
        """Make a ring in memory of its own; `keep` is `FREE`.

        Args:
            capacity_bytes: a power of two from 65,536 to 2^30.
            offset: of the first byte that will be appended.

        Raises:
            ValueError: `capacity_bytes` or `offset` is out of range.
            OSError: the system gives no memory.
        """

    @classmethod
    def shared(cls, fd: int) -> ByteRing:
        """Map ring memory that the keeper made.

        Args:
            fd: readable and writable; stays the caller's, who may close it.

        Raises:
            ValueError: this is not ring memory, or its header cannot be right.
            OSError: it cannot be read or mapped.
        """

    @property
    def capacity_bytes(self) -> int:
        """Size of the data memory, a power of two."""

    @property
    def head(self) -> int:
        """Offset of the next byte: all before it have been written."""

    @property
    def base(self) -> int:
        """Offset of the oldest byte that can be read; `head` when the ring is empty."""

    @property
    def keep(self) -> int:
        """Offset of the oldest byte that must not be overwritten; `FREE` (or anything from `head` on): none.

        Setting it never moves `base`. Bytes before `base` are gone, whatever `keep` says. In fresh shared
        memory it is 0: keep everything.

        Raises:
            ValueError: set to a negative number.
        """

    @keep.setter
    def keep(self, offset: int) -> None: ...
    @property
    def room_bytes(self) -> int:
        """How many bytes may be appended now without touching a byte from `keep` on, or the guard."""

    @property
    def input_applied(self) -> int:
        """Input bytes written to the PTY so far; of use in a shared ring, which remembers it.

        Raises:
            ValueError: set to a negative number.
        """

    @input_applied.setter
    def input_applied(self, n_bytes: int) -> None: ...
    @property
    def eof(self) -> bool:
        """Whether `read_fd` has met the end: no bytes will follow. `restart` clears it."""

    def append(self, data: Buffer) -> None:
        """Append all of `data`.

        Raises:
            BufferError: `data` is longer than `room_bytes`; nothing was appended.
            ValueError: a shared ring without `recover()`.
        """

    def view(self, start: int, end: int) -> memoryview:
        """Return the bytes from offset `start` up to `end` as a read-only view.

        No copy with the compiled module. The view may be used, and passed on, at any time: it keeps the
        memory. Its bytes are the right ones until `head` passes `start + capacity_bytes` (less `GUARD_BYTES`
        if shared; hold `keep` at `start` to prevent that), or `restart` or `release_memory` is called.

        Raises:
            IndexError: not inside `base`..`head`.
        """

    def read_fd(self, fd: int, max_bytes: int) -> int:
        """Read what a descriptor has straight into the ring.

        Stops at `max_bytes`, at the end of the room, when nothing is left to read (or, to save the system
        call that would tell, when a read gave less than 2,048 bytes), and at the end of the file, which `eof`
        tells from then on; EIO from a PTY whose last program has gone is that too. So a result below
        `max_bytes` does not say that nothing is left: an event loop that watches the level will call again.

        Args:
            fd: must be non-blocking: a read that blocks would stop the process.
            max_bytes: not negative.

        Returns:
            How many bytes were read, 0 or more.

        Raises:
            OSError: the read failed; nothing was read by this call.
            ValueError: `max_bytes` is negative, or a shared ring without `recover()`.
        """

    def recover(self) -> int:
        """Take over a shared ring: count what a killed writer had read and not counted.

        Moves `head` behind the last byte in the guard that is not 0xFF, then fills the guard again, as
        docs/protocol.md section 4.1 says. Calling it again is harmless.

        Returns:
            How many bytes were found, 0 to `GUARD_BYTES`.

        Raises:
            ValueError: the ring is not a shared one.
        """

    def restart(self, offset: int) -> None:
        """Empty the ring; the next byte is at `offset`. `keep`, unless `FREE`, becomes `offset` too.

        Raises:
            ValueError: `offset` is negative.
        """

    def release_memory(self) -> None:
        """Give the pages back to the system until they are written again. `base` becomes `head`.

        Bytes of views become zero.

        Raises:
            BufferError: there are bytes that `keep` protects.
            ValueError: a shared ring without `recover()`.
            OSError: the system refuses.
        """

    def close(self) -> None:
        """Give up the memory, which stays until the last view is gone. Calling it again is harmless."""

def pack_output(
    out: Buffer, pos: int, ring: ByteRing, start: int, end: int, stream: int, masks: MaskSource
) -> tuple[int, int]:
    """Write the bytes from offset `start` up to `end` into `out` as OUTPUT frames of the link.

    Each is one masked, final binary WebSocket frame with a payload of at most `MAX_LINK_PAYLOAD_BYTES` and
    the minimal length. Goes on until the range or the space is used up; less than 15 bytes of space is used
    up.

    Args:
        out: writable; stays the caller's.
        pos: where in `out` to start.
        ring: holds the bytes.
        start: offset of the first byte.
        end: offset behind the last byte.
        stream: stream id, a u32.
        masks: gives the masking keys.

    Returns:
        `(new_pos, new_start)`: `out[pos:new_pos]` is to be sent; the bytes from `new_start` on are still to
        be packed.

    Raises:
        IndexError: `pos` is not inside `out`, or the range not inside the ring.
        OverflowError: `stream` is not a u32.
    """

def pack_frame(kind: int, stream: int, data: Buffer, masks: MaskSource | None) -> bytes:
    """Make one mux frame as a whole WebSocket frame, masked if there are `masks` (runner to HQ).

    Raises:
        ValueError: `data` has more than 65,512 bytes.
        OverflowError: `kind` is not a u8, or `stream` not a u32.
    """

@final
class MuxReceiver(Generic[_Tag]):
    """HQ's receiving half of a link: puts the OUTPUT of each stream into its ring, unmasking on the way.

    Holds a reference to ring and tag of every stream that is open; to touched tags until `take_touched`.
    """

    def __init__(self, masked: bool, max_payload_bytes: int) -> None:
        """Start with no stream open; the arguments are those of `scan_frame`.

        Raises:
            ValueError: `max_payload_bytes` is negative.
        """

    @classmethod
    def __class_getitem__(cls, tag: Any) -> GenericAlias: ...
    @property
    def frames(self) -> int:
        """OUTPUT frames taken so far."""

    @property
    def output_bytes(self) -> int:
        """Bytes put into rings so far."""

    def open(self, stream: int, ring: ByteRing, tag: _Tag) -> None:
        """Put OUTPUT of `stream` at the head of `ring` from now on, without a limit.

        Args:
            stream: stream id, a u32.
            ring: stays the caller's. If it is closed the stream counts as not open.
            tag: what `take_touched` returns for this stream.

        Raises:
            ValueError: the stream is open already, the ring is closed, or a shared ring without `recover()`.
        """

    def close(self, stream: int) -> None:
        """Forget a stream; its frames are then `SLOW`, for the caller to ignore.

        Raises:
            KeyError: it is not open.
        """

    def set_limit(self, stream: int, limit_offset: int) -> None:
        """Let only bytes before `limit_offset` into the ring of `stream`; more is `OVERFLOW`.

        Raises:
            KeyError: the stream is not open.
            ValueError: `limit_offset` is negative.
        """

    def skip(self, stream: int, n_bytes: int) -> None:
        """Drop the next `n_bytes` bytes of `stream`: they are in its ring already. Replaces an earlier skip.

        Raises:
            KeyError: the stream is not open.
            ValueError: `n_bytes` is negative.
        """

    def receive(self, buf: Buffer, start: int, end: int) -> tuple[int, int]:
        """Take OUTPUT frames from a range of received bytes until one is something else.

        Returns:
            `(pos, status)`: everything before `pos` is taken; the frame at `pos` is not, because of `status`:

            - `MORE`: it is not complete (or `pos == end`).
            - `OVERFLOW`: it passes the limit of its stream or has more bytes than its ring has room. Nothing
              of it was taken.
            - `SLOW`: not a frame for the fast path (see `scan_frame`), a mux frame of another kind or of a
              stream that is not open, or a malformed one: shorter than its header, or flags or reserved bytes
              not zero.
        """

    def take_touched(self) -> list[_Tag]:
        """Return the tags of the streams whose rings got bytes since the last call, each once."""

def write_frames(fd: int, ring: ByteRing, start: int, end: int, frame_bytes: int) -> tuple[int, bytes]:
    """Send the bytes from offset `start` up to `end` as unmasked binary frames, straight from the ring.

    Never blocks and never raises SIGPIPE, whatever the mode of the socket.

    Args:
        fd: a stream socket; stays the caller's.
        ring: holds the bytes.
        start: offset of the first byte.
        end: offset behind the last byte.
        frame_bytes: most output in one frame, more than 0.

    Returns:
        `(position, rest)`: the bytes before `position` need not be sent again. `rest` is what the socket did
        not take of the last frame before `position`, perhaps all of it; it must be the next thing that is
        sent. It is empty only if everything was sent.

    Raises:
        IndexError: the range is not inside the ring.
        ValueError: `frame_bytes` is not positive.
        OSError: the connection is broken, or `fd` is not a socket.
    """

def write_fd(fd: int, buf: Buffer, start: int, end: int) -> int:
    """Send a range of a buffer.

    Never blocks and never raises SIGPIPE, whatever the mode of the socket.

    Returns:
        How many bytes the socket took; -1 if it is full.

    Raises:
        OSError: the connection is broken, or `fd` is not a socket.
    """

@final
class HoldPolicy:
    """Decides when to leave a PTY unread for a moment, so that a run of small writes travels in fewer frames.

    Output after idle goes at once, and so do large reads. After four drains in a row, each under 4 KiB and
    less than 6 ms after the one before, the PTY is left alone for 4 ms. The drain after such a hold tells
    whether it was right: with 8 KiB or more it is halved (below 1 ms: no holds for 50 ms, then 1 ms), with
    less than 2 KiB doubled, up to 4 ms again.

    One policy per PTY. It has no clock: times are the caller's, in microseconds, of any clock that never goes
    back.
    """

    def drained(self, now_us: int, n_bytes: int) -> int:
        """Report that the PTY was read until it was empty, or as far as was wanted.

        Args:
            now_us: the time.
            n_bytes: how many bytes that gave.

        Returns:
            0: keep reading as it becomes readable. Otherwise stop reading for this many microseconds, 1,000
            to 4,000, or until `input` is called; what was read so far is sent at once.
        """

    def input(self, now_us: int) -> None:
        """Report input to the PTY: its echo must not wait. The caller ends a hold that is running."""
