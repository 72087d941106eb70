"""The compiled hot path: what is done for every frame and every read, without a Python object for each.

`_fastpath.pyi` is the contract of every public name, `_fastpath_py.py` the readable reference; both run under
the same tests. What the code here has to keep on top:

- Every argument is checked where Python hands it over, in the release build too; C functions trust theirs.
- A buffer of the caller is held (`Py_buffer`) only during a call. The memory of a ring belongs to its
  `_Mapping`, which lives as long as the ring or any view of it.
- The words of a ring's header are loaded and stored atomically: bytes are in place before `head` counts them.
- `assert` is for what cannot happen; only the checked build compiles it (setup.py).
"""

import os
import struct
import tempfile
from types import GenericAlias

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EINTR, EIO, ENOSYS, errno
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.uio cimport iovec
from posix.unistd cimport read

from agentrelay._fastpath_frame cimport (
    C_FAST, C_MAX_LINK_PAYLOAD_BYTES, C_MORE, C_MUX_HEADER_BYTES, C_OVERFLOW, C_SLOW,
    MASKED, MAX_HEADER_BYTES, OUTPUT, FrameHeader,
    htonl, key_from, ntohl, read_header, read_length, write_header, write_mux_header, xor_copy, xor_in_place,
)
from agentrelay._fastpath_system cimport (
    MADV_REMOVE, MSG_DONTWAIT, MSG_NOSIGNAL, msghdr,
    load, madvise, map_file, munmap, reserve, send, sendmsg, store,
)

cdef enum:
    C_GUARD_BYTES = 16_384

COMPILED = True
MORE = C_MORE
FAST = C_FAST
SLOW = C_SLOW
OVERFLOW = C_OVERFLOW
GUARD_BYTES = C_GUARD_BYTES
MAX_LINK_PAYLOAD_BYTES = C_MAX_LINK_PAYLOAD_BYTES
MUX_HEADER_BYTES = C_MUX_HEADER_BYTES
FREE = INT64_MAX


# ---- Buffers of the caller


cdef int hold_range(object buf, Py_buffer *held, Py_ssize_t start, Py_ssize_t end, int flags) except -1:
    PyObject_GetBuffer(buf, held, flags)
    if not 0 <= start <= end <= held.len:
        size = held.len
        PyBuffer_Release(held)
        raise IndexError(f"range {start}:{end} is not inside the buffer of {size} bytes")
    return 0


# ---- WebSocket frames, RFC 6455 section 5.2


def scan_frame(buf, Py_ssize_t start, Py_ssize_t end, bint masked, int64_t max_payload_bytes):
    """Judge the frame that starts at `start`: (status, payload start, payload end, mask)."""
    if max_payload_bytes < 0:
        raise ValueError(f"max_payload_bytes is {max_payload_bytes}, must not be negative")
    cdef Py_buffer held
    cdef FrameHeader header
    hold_range(buf, &held, start, end, PyBUF_SIMPLE)
    cdef int status = read_header(
        <const uint8_t *>held.buf + start, end - start, masked, <uint64_t>max_payload_bytes, &header
    )
    PyBuffer_Release(&held)
    if status != C_FAST:
        return status, start, start, 0
    start += header.header_bytes
    return status, start, start + <Py_ssize_t>header.payload_bytes, ntohl(header.key)


def frame_extent(buf, Py_ssize_t start, Py_ssize_t end):
    """Tell how many bytes the frame at `start` has; 0: not known yet, -1: broken."""
    cdef Py_buffer held
    cdef FrameHeader header
    cdef bint masked = False
    hold_range(buf, &held, start, end, PyBUF_SIMPLE)
    cdef int status = read_length(<const uint8_t *>held.buf + start, end - start, &header)
    if status == C_FAST:
        masked = (<const uint8_t *>held.buf)[start + 1] & MASKED
    PyBuffer_Release(&held)
    if status != C_FAST:
        return 0 if status == C_MORE else -1
    return header.payload_bytes + <uint64_t>(header.header_bytes + (4 if masked else 0))


def frame_opening(buf, Py_ssize_t start):
    """Read FIN and the opcode of the frame that starts at `start`."""
    cdef Py_buffer held
    PyObject_GetBuffer(buf, &held, PyBUF_SIMPLE)
    cdef Py_ssize_t size = held.len
    cdef uint8_t first = 0
    cdef bint inside = 0 <= start < size
    if inside:
        first = (<const uint8_t *>held.buf)[start]
    PyBuffer_Release(&held)
    if not inside:
        raise IndexError(f"no frame can start at {start} in a buffer of {size} bytes")
    return (first & 0x80) != 0, first & 0x0F


def unmask(buf, Py_ssize_t start, Py_ssize_t end, uint32_t mask):
    """Apply a masking key to a range, in place."""
    cdef Py_buffer held
    hold_range(buf, &held, start, end, PyBUF_WRITABLE)
    xor_in_place(<uint8_t *>held.buf + start, <size_t>(end - start), htonl(mask))
    PyBuffer_Release(&held)


def frame_header(int64_t payload_bytes):
    """Make the header of an unmasked, final binary frame."""
    if payload_bytes < 0:
        raise ValueError(f"payload_bytes is {payload_bytes}, must not be negative")
    cdef uint8_t header[MAX_HEADER_BYTES]
    cdef Py_ssize_t header_bytes = write_header(header, <uint64_t>payload_bytes, 0)
    return PyBytes_FromStringAndSize(<const char *>header, header_bytes)


@cython.final
cdef class MaskSource:
    """Masking keys: random, never zero, drawn in bulk."""

    cdef bytes _drawn
    cdef Py_ssize_t _used

    def __cinit__(self):
        self._drawn = b""

    cdef uint32_t take(self) except 0:
        """Return a key in memory order."""
        cdef uint32_t key = 0
        while key == 0:
            if len(self._drawn) - self._used < 4:
                self._drawn = os.urandom(4096)
                self._used = 0
                continue
            memcpy(&key, PyBytes_AS_STRING(self._drawn) + self._used, 4)
            self._used += 4
        return key

    def next(self):
        """Return the next key."""
        return ntohl(self.take())


# ---- Rings


cdef enum:
    HEADER_PAGE_BYTES = 4096
    MIN_SHARED_BYTES = 131_072
    # Words of the header, docs/protocol.md section 4.1.
    HEAD = 2
    KEEP = 3
    INPUT_APPLIED = 4
    FIRST = 5  # offset of the first byte since the ring was emptied
    N_WORDS = 6
    # A read that gives less has emptied a PTY; one under load gives 4,095 bytes at a time. The read that
    # would say so costs half of a small drain (bench/micro/test_ring.py).
    SHORT_READ_BYTES = 2048

cdef uint64_t MIN_RING_BYTES = 65_536
cdef uint64_t MAX_RING_BYTES = 1 << 30
cdef uint64_t RING_MAGIC = 0x31474E4952524741
cdef uint64_t PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@cython.final
cdef class _Mapping:
    """Owner of a ring's address range, [header page,] data, same data: unmapped with the last reference."""

    cdef uint8_t *address
    cdef uint8_t *data
    cdef size_t mapped_bytes
    cdef size_t capacity_bytes

    def __dealloc__(self):
        if self.address != NULL:
            munmap(self.address, self.mapped_bytes)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, <Py_ssize_t>(2 * self.capacity_bytes), True, flags)


cdef _Mapping map_ring(int fd, size_t header_bytes, size_t capacity_bytes):
    """Map the header and twice the data of `fd`, which may be closed afterwards."""
    cdef _Mapping mapping = _Mapping.__new__(_Mapping)
    cdef size_t mapped_bytes = header_bytes + 2 * capacity_bytes
    mapping.address = <uint8_t *>reserve(mapped_bytes)
    if mapping.address == NULL:
        PyErr_SetFromErrno(OSError)
    mapping.mapped_bytes = mapped_bytes
    mapping.capacity_bytes = capacity_bytes
    mapping.data = mapping.address + header_bytes
    if not (
        map_file(mapping.address, header_bytes + capacity_bytes, fd, 0)
        and map_file(mapping.data + capacity_bytes, capacity_bytes, fd, header_bytes)
    ):
        PyErr_SetFromErrno(OSError)
    return mapping


def _open_memory():
    """Return a descriptor of new memory without a name."""
    try:
        return os.memfd_create("agentrelay-ring")
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno != ENOSYS:
            raise
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


cdef int check_capacity(int64_t capacity_bytes, int64_t least) except -1:
    if not least <= capacity_bytes <= <int64_t>MAX_RING_BYTES or capacity_bytes & (capacity_bytes - 1):
        limits = f"a power of two from {least} to {MAX_RING_BYTES}"
        raise ValueError(f"a ring of {capacity_bytes} bytes: must be {limits}")
    return 0


@cython.final
cdef class ByteRing:
    """Bytes of one session by offset, in memory mapped twice back to back."""

    cdef _Mapping _mapping
    cdef object _whole  # memoryview of both copies of the data; what view() slices
    cdef uint8_t *_data  # NULL: closed
    cdef uint64_t *_words  # of the header page, or _own_words
    cdef uint64_t _own_words[N_WORDS]
    cdef uint64_t _capacity
    cdef uint64_t _guard  # C_GUARD_BYTES in a shared ring, else 0
    cdef uint64_t _usable  # capacity less the guard
    cdef uint64_t _step  # how many bytes may be counted at once: at most the guard, whose place they take
    cdef bint _prepared  # the guard is known to be filled
    cdef readonly bint eof

    def __init__(self, int64_t capacity_bytes, *, int64_t offset=0):
        check_capacity(capacity_bytes, MIN_RING_BYTES)
        if offset < 0:
            raise ValueError(f"offset is {offset}, must not be negative")
        fd = _open_memory()
        try:
            os.ftruncate(fd, capacity_bytes)
            mapping = map_ring(fd, 0, <size_t>capacity_bytes)
        finally:
            os.close(fd)
        self._attach(mapping, 0)
        self._words[HEAD] = self._words[FIRST] = <uint64_t>offset
        self._words[KEEP] = INT64_MAX
        self._words[INPUT_APPLIED] = 0

    @classmethod
    def shared(cls, int fd):
        """Map ring memory that the keeper made."""
        header = os.pread(fd, 8 * N_WORDS, 0)
        if len(header) < 8 * N_WORDS:
            raise ValueError(f"not ring memory: {len(header)} bytes of header")
        magic, capacity_bytes, head = struct.unpack_from("=3Q", header)
        if magic != RING_MAGIC:
            raise ValueError(f"not ring memory: the magic number is {magic:#x}")
        check_capacity(min(capacity_bytes, FREE), MIN_SHARED_BYTES)
        if head > FREE:
            raise ValueError(f"broken ring memory: head is {head}")
        if os.fstat(fd).st_size < HEADER_PAGE_BYTES + capacity_bytes:
            raise ValueError(f"broken ring memory: the file is too small for {capacity_bytes} bytes")
        cdef ByteRing ring = ByteRing.__new__(ByteRing)
        ring._attach(map_ring(fd, HEADER_PAGE_BYTES, capacity_bytes), C_GUARD_BYTES)
        return ring

    cdef int _attach(self, _Mapping mapping, uint64_t guard) except -1:
        whole = PyMemoryView_FromObject(mapping)
        # From here on nothing can fail or run Python code that would see half a ring.
        self._mapping = mapping
        self._whole = whole
        self._data = mapping.data
        self._words = <uint64_t *>mapping.address if guard else self._own_words
        self._capacity = mapping.capacity_bytes
        self._guard = guard
        self._usable = self._capacity - guard
        self._step = guard if guard else self._capacity
        self._prepared = guard == 0
        self.eof = False
        return 0

    # -- Internal: no checks, no Python objects

    cdef inline uint8_t *_at(self, uint64_t offset) noexcept nogil:
        """Address of the byte at `offset`; up to a capacity of bytes may be used from there."""
        return self._data + (offset & (self._capacity - 1))

    cdef inline uint64_t _word(self, int index) noexcept nogil:
        return load(&self._words[index])

    cdef inline void _set_word(self, int index, uint64_t value) noexcept nogil:
        store(&self._words[index], value)

    cdef inline uint64_t _base(self, uint64_t head) noexcept nogil:
        cdef uint64_t base = self._word(FIRST)
        if head > self._usable and base < head - self._usable:
            base = head - self._usable
        return base if base < head else head

    cdef inline uint64_t _room(self, uint64_t head) noexcept nogil:
        cdef uint64_t base = self._base(head)
        cdef uint64_t keep = self._word(KEEP)
        if keep >= head:
            return self._usable
        return self._usable - (head - (keep if keep > base else base))

    cdef inline void _count(self, uint64_t head, uint64_t n_bytes) noexcept nogil:
        """Count bytes that are in place behind head."""
        assert n_bytes <= self._step
        if self._guard:
            # Before head moves: killed in between, old bytes would be where recover() expects the guard.
            memset(self._at(head + self._guard), 0xFF, n_bytes)
        self._set_word(HEAD, head + n_bytes)

    cdef void _write(self, const uint8_t *data, uint64_t n_bytes, uint32_t key) noexcept nogil:
        """Append bytes, at most the room there is, unmasked with a key in memory order."""
        cdef uint64_t head
        cdef uint64_t step
        assert n_bytes <= self._room(self._word(HEAD))
        while n_bytes > 0:
            head = self._word(HEAD)
            step = min(n_bytes, self._step)
            xor_copy(self._at(head), data, step, key)
            self._count(head, step)
            data += step
            n_bytes -= step

    cdef int _check_open(self) except -1:
        if self._data == NULL:
            raise ValueError("the ring is closed")
        return 0

    cdef int _check_writable(self) except -1:
        self._check_open()
        if not self._prepared:
            raise ValueError("call recover() before writing into a shared ring: its guard may not be filled")
        return 0

    cdef int _check_range(self, int64_t start, int64_t end) except -1:
        self._check_open()
        cdef uint64_t head = self._word(HEAD)
        cdef uint64_t base = self._base(head)
        if start < 0 or not base <= <uint64_t>start <= <uint64_t>end <= head:
            raise IndexError(f"range {start}:{end} is not inside the ring, which holds {base}:{head}")
        return 0

    # -- Public

    @property
    def capacity_bytes(self):
        """Size of the data."""
        return self._capacity

    @property
    def head(self):
        """Offset of the next byte."""
        self._check_open()
        return self._word(HEAD)

    @property
    def base(self):
        """Offset of the oldest readable byte."""
        self._check_open()
        return self._base(self._word(HEAD))

    @property
    def room_bytes(self):
        """How many bytes may be appended now."""
        self._check_open()
        return self._room(self._word(HEAD))

    @property
    def keep(self):
        """Offset of the oldest byte that must not be overwritten."""
        self._check_open()
        return self._word(KEEP)

    @keep.setter
    def keep(self, int64_t offset):
        self._check_open()
        if offset < 0:
            raise ValueError(f"keep is {offset}, must not be negative")
        self._set_word(KEEP, <uint64_t>offset)

    @property
    def input_applied(self):
        """Count of input bytes written to the PTY."""
        self._check_open()
        return self._word(INPUT_APPLIED)

    @input_applied.setter
    def input_applied(self, int64_t n_bytes):
        self._check_open()
        if n_bytes < 0:
            raise ValueError(f"input_applied is {n_bytes}, must not be negative")
        self._set_word(INPUT_APPLIED, <uint64_t>n_bytes)

    def append(self, data):
        """Append all of `data`, or nothing and raise BufferError."""
        cdef Py_buffer held
        cdef uint64_t room
        PyObject_GetBuffer(data, &held, PyBUF_SIMPLE)  # may run Python code, so checks come after it
        try:
            self._check_writable()
            room = self._room(self._word(HEAD))
            if <uint64_t>held.len > room:
                raise BufferError(f"{held.len} bytes do not fit, there is room for {room}")
            self._write(<const uint8_t *>held.buf, <uint64_t>held.len, 0)
        finally:
            PyBuffer_Release(&held)

    def view(self, int64_t start, int64_t end):
        """Return a read-only view of the bytes from `start` up to `end`."""
        self._check_range(start, end)
        cdef uint64_t at = <uint64_t>start & (self._capacity - 1)
        return self._whole[at:at + <uint64_t>(end - start)]

    def read_fd(self, int fd, int64_t max_bytes):
        """Read from a non-blocking descriptor straight into the ring; return the number of bytes."""
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}, must not be negative")
        cdef uint64_t total = 0
        cdef uint64_t head
        cdef uint64_t ask
        cdef Py_ssize_t got
        while True:
            self._check_writable()  # each time: a signal handler may have closed the ring
            head = self._word(HEAD)
            ask = min(self._room(head), <uint64_t>max_bytes - total, self._step)
            if ask == 0:
                break
            got = read(fd, self._at(head), ask)
            if got > 0:
                self._count(head, <uint64_t>got)
                total += <uint64_t>got
                if got < SHORT_READ_BYTES:
                    break
            elif got == 0 or errno == EIO:
                self.eof = True
                break
            elif errno == EINTR:
                PyErr_CheckSignals()
            elif errno == EAGAIN or total > 0:
                break  # an error that stays is told by the next call, these bytes by this one
            else:
                PyErr_SetFromErrno(OSError)
        return total

    def recover(self):
        """Count the bytes that a killed writer left behind head, and fill the guard again."""
        self._check_open()
        if not self._guard:
            raise ValueError("only a shared ring is recovered")
        cdef uint64_t head = self._word(HEAD)
        cdef uint64_t n_bytes = min(self._room(head), self._step)
        cdef uint8_t *guard = self._at(head)
        while n_bytes > 0 and guard[n_bytes - 1] == 0xFF:
            n_bytes -= 1
        self._count(head, n_bytes)
        self._prepared = True
        return n_bytes

    def restart(self, int64_t offset):
        """Empty the ring; the next byte is at `offset`."""
        self._check_open()
        if offset < 0:
            raise ValueError(f"offset is {offset}, must not be negative")
        memset(self._at(<uint64_t>offset), 0xFF, self._guard)
        if self._word(KEEP) != <uint64_t>INT64_MAX:
            self._set_word(KEEP, <uint64_t>offset)
        self._set_word(FIRST, <uint64_t>offset)
        self._set_word(HEAD, <uint64_t>offset)
        self._prepared = True
        self.eof = False

    def release_memory(self):
        """Give the pages back to the system; base becomes head."""
        self._check_writable()
        cdef uint64_t head = self._word(HEAD)
        if self._word(KEEP) < head and self._base(head) < head:
            raise BufferError(f"bytes from {self._word(KEEP)} up to {head} must be kept")
        self._set_word(FIRST, head)
        # Only whole pages outside the guard, which must never be seen without its fill.
        cdef uint64_t at = head & (self._capacity - 1)
        cdef uint64_t page = PAGE_BYTES
        cdef uint64_t start = (at + self._guard + page - 1) & ~(page - 1)
        cdef uint64_t end = (at + self._capacity) & ~(page - 1)
        assert start <= end
        assert end <= 2 * self._capacity
        if madvise(self._data + start, end - start, MADV_REMOVE) < 0:
            PyErr_SetFromErrno(OSError)

    def close(self):
        """Give up the memory; it is unmapped with the last view."""
        self._data = NULL
        self._words = NULL
        self._whole = None
        self._mapping = None


# ---- The link, sending


def pack_output(
    out, Py_ssize_t pos, ByteRing ring not None, int64_t start, int64_t end, uint32_t stream,
    MaskSource masks not None,
):
    """Pack a range of the ring as masked OUTPUT frames into `out` from `pos`; return (new pos, new start)."""
    cdef Py_buffer held
    cdef Py_ssize_t room
    cdef Py_ssize_t payload
    cdef Py_ssize_t most
    cdef uint32_t key
    cdef uint8_t *to
    PyObject_GetBuffer(out, &held, PyBUF_WRITABLE)
    try:
        ring._check_range(start, end)
        if not 0 <= pos <= held.len:
            raise IndexError(f"position {pos} is not inside the buffer of {held.len} bytes")
        while start < end:
            room = held.len - pos
            # Headers have 8 bytes with the masking key, below a payload of 126 bytes only 6.
            most = room - 8 if room >= 126 + 8 else room - 6 if room < 125 + 6 else 125
            if most > C_MAX_LINK_PAYLOAD_BYTES:
                most = C_MAX_LINK_PAYLOAD_BYTES
            if most <= C_MUX_HEADER_BYTES:
                break
            payload = most
            if end - start < most - C_MUX_HEADER_BYTES:
                payload = <Py_ssize_t>(end - start) + C_MUX_HEADER_BYTES
            key = masks.take()
            ring._check_range(start, end)  # again: taking a key may have run a signal handler
            to = <uint8_t *>held.buf + pos
            to += write_header(to, <uint64_t>payload, key)
            write_mux_header(to, OUTPUT, stream, key)
            to += C_MUX_HEADER_BYTES
            payload -= C_MUX_HEADER_BYTES
            xor_copy(to, ring._at(<uint64_t>start), <size_t>payload, key)
            start += payload
            pos = to + payload - <uint8_t *>held.buf
    finally:
        PyBuffer_Release(&held)
    return pos, start


def pack_frame(uint8_t kind, uint32_t stream, data, MaskSource masks):
    """Make one mux frame as a whole WebSocket frame, masked if there are `masks`."""
    cdef Py_buffer held
    cdef uint8_t header[MAX_HEADER_BYTES + 4]
    cdef uint32_t key = 0 if masks is None else masks.take()
    cdef Py_ssize_t header_bytes
    cdef Py_ssize_t payload_bytes
    cdef uint8_t *to
    PyObject_GetBuffer(data, &held, PyBUF_SIMPLE)
    try:
        payload_bytes = C_MUX_HEADER_BYTES + held.len
        if payload_bytes > C_MAX_LINK_PAYLOAD_BYTES:
            raise ValueError(f"{held.len} bytes are too many for one mux frame")
        header_bytes = write_header(header, <uint64_t>payload_bytes, key)
        frame = PyBytes_FromStringAndSize(NULL, header_bytes + payload_bytes)
        to = <uint8_t *>PyBytes_AS_STRING(frame)
        memcpy(to, header, <size_t>header_bytes)
        to += header_bytes
        write_mux_header(to, kind, stream, key)
        xor_copy(to + C_MUX_HEADER_BYTES, <const uint8_t *>held.buf, <size_t>held.len, key)
    finally:
        PyBuffer_Release(&held)
    return frame


# ---- The link, receiving


@cython.final
cdef class _Stream:
    cdef uint32_t id
    cdef ByteRing ring
    cdef object tag
    cdef uint64_t limit
    cdef uint64_t skip
    cdef bint touched


cdef enum:
    # HQ counts stream ids up, so about as many streams at a time have a place each.
    CACHE_STREAMS = 256


@cython.final
cdef class MuxReceiver:
    """HQ's receiving half of a link."""

    cdef bint _masked
    cdef uint64_t _max_payload_bytes
    cdef dict _streams
    cdef list _touched
    cdef PyObject *_cache[CACHE_STREAMS]  # by the low bits of the id; borrowed from _streams
    cdef readonly uint64_t frames
    cdef readonly uint64_t output_bytes

    def __cinit__(self):
        self._streams = {}
        self._touched = []

    def __init__(self, bint masked, int64_t max_payload_bytes):
        if max_payload_bytes < 0:
            raise ValueError(f"max_payload_bytes is {max_payload_bytes}, must not be negative")
        self._masked = masked
        self._max_payload_bytes = <uint64_t>max_payload_bytes

    @classmethod
    def __class_getitem__(cls, tag):
        """Make `MuxReceiver[Tag]` an annotation."""
        return GenericAlias(cls, tag)

    cdef _Stream _known(self, uint32_t stream):
        known = self._streams.get(stream)
        if known is None:
            raise KeyError(f"stream {stream} is not open")
        return known

    cdef inline _Stream _find(self, uint32_t stream):
        cdef PyObject *cached = self._cache[stream % CACHE_STREAMS]
        if cached != NULL and (<_Stream>cached).id == stream:
            return <_Stream>cached
        found = self._streams.get(stream)
        if found is not None:
            self._cache[stream % CACHE_STREAMS] = <PyObject *>found
        return found

    def open(self, uint32_t stream, ByteRing ring not None, tag):
        """Put OUTPUT of `stream` into `ring` from now on."""
        ring._check_writable()
        if stream in self._streams:
            raise ValueError(f"stream {stream} is open already")
        cdef _Stream opened = _Stream.__new__(_Stream)
        opened.id = stream
        opened.ring = ring
        opened.tag = tag
        opened.limit = INT64_MAX
        self._streams[stream] = opened

    def close(self, uint32_t stream):
        """Forget a stream."""
        self._known(stream)
        self._cache[stream % CACHE_STREAMS] = NULL
        del self._streams[stream]

    def set_limit(self, uint32_t stream, int64_t limit_offset):
        """Take only OUTPUT before this offset."""
        if limit_offset < 0:
            raise ValueError(f"limit_offset is {limit_offset}, must not be negative")
        self._known(stream).limit = <uint64_t>limit_offset

    def skip(self, uint32_t stream, int64_t n_bytes):
        """Drop the next bytes of a stream."""
        if n_bytes < 0:
            raise ValueError(f"n_bytes is {n_bytes}, must not be negative")
        self._known(stream).skip = <uint64_t>n_bytes

    def receive(self, buf, Py_ssize_t start, Py_ssize_t end):
        """Take OUTPUT frames into their rings up to one that is something else; return (pos, status)."""
        cdef Py_buffer held
        cdef int status
        hold_range(buf, &held, start, end, PyBUF_SIMPLE)
        try:
            status = self._receive(<const uint8_t *>held.buf, &start, end)
        finally:
            PyBuffer_Release(&held)
        return start, status

    cdef int _receive(self, const uint8_t *data, Py_ssize_t *pos, Py_ssize_t end) except -1:
        cdef FrameHeader header
        cdef uint8_t mux[C_MUX_HEADER_BYTES]
        cdef uint32_t id
        cdef uint64_t n_bytes
        cdef uint64_t skipped
        cdef uint64_t head
        cdef uint32_t key
        cdef const uint8_t *payload
        cdef _Stream stream
        cdef int status
        while True:
            status = read_header(data + pos[0], end - pos[0], self._masked, self._max_payload_bytes, &header)
            if status != C_FAST:
                return status
            if header.payload_bytes < C_MUX_HEADER_BYTES:
                return C_SLOW
            payload = data + pos[0] + header.header_bytes
            xor_copy(mux, payload, C_MUX_HEADER_BYTES, header.key)
            if mux[0] != OUTPUT or mux[1] | mux[2] | mux[3]:
                return C_SLOW
            memcpy(&id, mux + 4, 4)
            stream = self._find(ntohl(id))
            if stream is None or stream.ring._data == NULL:
                return C_SLOW
            n_bytes = header.payload_bytes - C_MUX_HEADER_BYTES
            skipped = stream.skip if stream.skip < n_bytes else n_bytes
            n_bytes -= skipped
            if n_bytes > 0:
                head = stream.ring._word(HEAD)
                if n_bytes > stream.ring._room(head) or head + n_bytes > stream.limit:
                    return C_OVERFLOW
                if not stream.touched:
                    self._touched.append(stream)
                    stream.touched = True
                key = key_from(header.key, skipped)
                stream.ring._write(payload + C_MUX_HEADER_BYTES + skipped, n_bytes, key)
                self.output_bytes += n_bytes
            stream.skip -= skipped
            self.frames += 1
            pos[0] += header.header_bytes + <Py_ssize_t>header.payload_bytes

    def take_touched(self):
        """Return the tags of the rings that got bytes since the last call."""
        cdef _Stream stream
        tags = []
        for stream in self._touched:
            stream.touched = False
            tags.append(stream.tag)
        self._touched = []
        return tags


# ---- Direct writes to a socket


cdef Py_ssize_t sent(Py_ssize_t result) except -2:
    """Turn the result of a send into what is told: -1 for a full socket."""
    if result < 0 and errno != EAGAIN:
        PyErr_SetFromErrno(OSError)
    return result


cdef enum:
    FRAMES_AT_ONCE = 4


def write_frames(int fd, ByteRing ring not None, int64_t start, int64_t end, int64_t frame_bytes):
    """Send a range of the ring as binary frames until the socket is full; return (position, rest)."""
    if frame_bytes <= 0:
        raise ValueError(f"frame_bytes is {frame_bytes}, must be positive")
    ring._check_range(start, end)
    cdef uint8_t headers[FRAMES_AT_ONCE][MAX_HEADER_BYTES]
    cdef iovec parts[2 * FRAMES_AT_ONCE]
    cdef msghdr message
    cdef Py_ssize_t taken
    cdef size_t wanted
    cdef int n_parts
    cdef int i
    memset(&message, 0, sizeof(message))
    message.msg_iov = parts
    while start < end:
        n_parts = 0
        wanted = 0
        while n_parts < 2 * FRAMES_AT_ONCE and start < end:
            parts[n_parts].iov_base = headers[n_parts >> 1]
            parts[n_parts + 1].iov_base = ring._at(<uint64_t>start)
            parts[n_parts + 1].iov_len = <size_t>min(end - start, frame_bytes)
            parts[n_parts].iov_len = <size_t>write_header(
                headers[n_parts >> 1], parts[n_parts + 1].iov_len, 0
            )
            start += <int64_t>parts[n_parts + 1].iov_len
            wanted += parts[n_parts].iov_len + parts[n_parts + 1].iov_len
            n_parts += 2
        message.msg_iovlen = <size_t>n_parts
        # Not writev: it can neither be told not to block nor to raise no SIGPIPE.
        taken = sent(sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL))
        if taken < 0:
            taken = 0
        if <size_t>taken < wanted:
            # Of the frames that were to be sent, the first that was not taken whole.
            i = 0
            while <size_t>taken >= parts[i].iov_len + parts[i + 1].iov_len:
                taken -= <Py_ssize_t>(parts[i].iov_len + parts[i + 1].iov_len)
                i += 2
            for n_parts in range(i + 2, n_parts, 2):
                start -= <int64_t>parts[n_parts + 1].iov_len
            return start, rest_of_frame(parts + i, <size_t>taken)
    return start, b""


cdef bytes rest_of_frame(iovec *parts, size_t taken):
    """Copy what is left of a frame's header and payload behind the first `taken` bytes."""
    cdef size_t header_left = parts[0].iov_len - taken if taken < parts[0].iov_len else 0
    cdef size_t payload_left = parts[1].iov_len
    if taken > parts[0].iov_len:
        payload_left -= taken - parts[0].iov_len
    rest = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(header_left + payload_left))
    cdef char *to = PyBytes_AS_STRING(rest)
    memcpy(to, <const char *>parts[0].iov_base + parts[0].iov_len - header_left, header_left)
    memcpy(to + header_left, <const char *>parts[1].iov_base + parts[1].iov_len - payload_left, payload_left)
    return rest


def write_fd(int fd, buf, Py_ssize_t start, Py_ssize_t end):
    """Send a range of a buffer."""
    cdef Py_buffer held
    cdef const uint8_t *data
    hold_range(buf, &held, start, end, PyBUF_SIMPLE)
    data = <const uint8_t *>held.buf + start
    try:
        return sent(send(fd, data, <size_t>(end - start), MSG_DONTWAIT | MSG_NOSIGNAL))
    finally:
        PyBuffer_Release(&held)


# ---- When to wait for more output


cdef enum:
    RUN_DRAINS = 4  # an echo, and the prompt or the line after it, are over sooner
    SMALL_BYTES = 4096  # what a PTY gives at most in one read
    CLOSE_US = 6_000  # with holds of 4 ms and timers of 1 ms, a run goes on through its own holds
    LONGEST_HOLD_US = 4_000  # a quarter of the 16 ms that a screen shows one picture
    SHORTEST_HOLD_US = 1_000  # the resolution of libuv's timers
    MUCH_BYTES = 8192  # the program is so fast that a hold only slows it down
    LITTLE_BYTES = 2048  # a longer hold would save more frames
    OFF_US = 50_000


@cython.final
cdef class HoldPolicy:
    """Decides when to leave a PTY unread, so that a run of small writes travels in fewer frames."""

    cdef int64_t _hold_us
    cdef int64_t _last_us  # when the last drain was, or when the hold after it ends
    cdef int64_t _off_until_us
    cdef int _run
    cdef bint _held

    def __cinit__(self):
        self._hold_us = LONGEST_HOLD_US

    def drained(self, int64_t now_us, int64_t n_bytes):
        """Tell after a drain of the PTY how long to leave it unread, in microseconds."""
        cdef bint close = self._run > 0 and now_us - self._last_us < CLOSE_US
        cdef bint after_hold = self._held
        self._held = False
        self._last_us = now_us
        if n_bytes <= 0:
            self._run = 0
            return 0
        if after_hold:
            if n_bytes >= MUCH_BYTES:
                self._hold_us //= 2
                if self._hold_us < SHORTEST_HOLD_US:
                    self._hold_us = SHORTEST_HOLD_US
                    self._off_until_us = now_us + OFF_US
            elif n_bytes < LITTLE_BYTES and self._hold_us < LONGEST_HOLD_US:
                self._hold_us *= 2
        if n_bytes >= (MUCH_BYTES if after_hold else SMALL_BYTES):
            self._run = 0
            return 0
        self._run = self._run + 1 if close else 1
        if self._run < RUN_DRAINS or now_us < self._off_until_us:
            return 0
        self._held = True
        self._last_us = now_us + self._hold_us
        return self._hold_us

    def input(self, int64_t now_us):
        """Start from the beginning: a person is typing."""
        self._hold_us = LONGEST_HOLD_US
        self._off_until_us = 0
        self._last_us = now_us
        self._run = 0
        self._held = False
