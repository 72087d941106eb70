"""WebSocket and mux frames in C: headers, masking. No Python objects, no checks: `_fastpath.pyx` does those.

A **key** is a masking key in memory order: its first byte in memory is the first on the wire. 0: not masked.
"""

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "<arpa/inet.h>" nogil:
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)

cdef enum:
    # The names without "C_" are Python's.
    C_MORE = 0
    C_FAST = 1
    C_SLOW = 2
    C_OVERFLOW = 3

    C_MUX_HEADER_BYTES = 8
    C_MAX_LINK_PAYLOAD_BYTES = 65_520
    OUTPUT = 1

    MAX_HEADER_BYTES = 10
    FINAL_BINARY = 0x82  # FIN, no RSV bits, opcode 2
    MASKED = 0x80

cdef struct FrameHeader:
    Py_ssize_t header_bytes
    uint64_t payload_bytes
    uint32_t key


cdef inline int read_length(const uint8_t *frame, Py_ssize_t available, FrameHeader *header) noexcept nogil:
    """Read the length of any frame: MORE, FAST, or SLOW if it is none. header_bytes is without the key."""
    cdef int i
    if available < 2:
        return C_MORE
    cdef uint8_t length = frame[1] & 0x7F
    cdef int more_bytes = 0 if length < 126 else 2 if length == 126 else 8
    if available < 2 + more_bytes:
        return C_MORE
    header.header_bytes = 2 + more_bytes
    header.payload_bytes = 0 if more_bytes else length
    for i in range(more_bytes):
        header.payload_bytes = header.payload_bytes << 8 | frame[2 + i]
    return C_SLOW if header.payload_bytes > <uint64_t>INT64_MAX else C_FAST


cdef inline int read_header(
    const uint8_t *frame, Py_ssize_t available, bint masked, uint64_t max_payload_bytes, FrameHeader *header
) noexcept nogil:
    """Judge a frame: MORE, FAST (header is filled) or SLOW, which is said as early as it is known."""
    if available < 1:
        return C_MORE
    if frame[0] != FINAL_BINARY:
        return C_SLOW
    if available < 2:
        return C_MORE
    if ((frame[1] & MASKED) != 0) != masked:
        return C_SLOW
    cdef int status = read_length(frame, available, header)
    if status != C_FAST:
        return status
    cdef uint64_t least = 0 if header.header_bytes == 2 else 126 if header.header_bytes == 4 else 65_536
    if not least <= header.payload_bytes <= max_payload_bytes:
        return C_SLOW
    header.key = 0
    if masked:
        header.header_bytes += 4
        if available < header.header_bytes:
            return C_MORE
        memcpy(&header.key, frame + header.header_bytes - 4, 4)
    if header.payload_bytes > <uint64_t>(available - header.header_bytes):
        return C_MORE
    return C_FAST


cdef inline Py_ssize_t write_header(uint8_t *to, uint64_t payload_bytes, uint32_t key) noexcept nogil:
    """Write a final binary frame's header of minimal length, at most MAX_HEADER_BYTES and the key."""
    cdef int i
    cdef Py_ssize_t header_bytes = 2
    to[0] = FINAL_BINARY
    if payload_bytes < 126:
        to[1] = <uint8_t>payload_bytes
    elif payload_bytes < 65_536:
        to[1] = 126
        header_bytes = 4
    else:
        to[1] = 127
        header_bytes = 10
    for i in range(<int>header_bytes - 2):
        to[header_bytes - 1 - i] = <uint8_t>(payload_bytes >> 8 * i & 0xFF)
    if key:
        to[1] |= MASKED
        memcpy(to + header_bytes, &key, 4)
        header_bytes += 4
    return header_bytes


cdef inline void write_mux_header(uint8_t *to, uint8_t kind, uint32_t stream, uint32_t key) noexcept nogil:
    """Write the C_MUX_HEADER_BYTES that begin a payload, docs/protocol.md section 3.1."""
    to[0] = kind
    to[1] = to[2] = to[3] = 0
    stream = htonl(stream)
    memcpy(to + 4, &stream, 4)
    xor_in_place(to, C_MUX_HEADER_BYTES, key)


cdef inline void xor_in_place(uint8_t *data, size_t n_bytes, uint32_t key) noexcept nogil:
    # Eight bytes a step through memcpy: gcc makes vector code of it, and no access is unaligned in C's eyes.
    cdef uint64_t word
    cdef uint64_t wide = <uint64_t>key << 32 | key
    cdef size_t i
    cdef size_t n_words = n_bytes >> 3
    for i in range(n_words):
        memcpy(&word, data + 8 * i, 8)
        word ^= wide
        memcpy(data + 8 * i, &word, 8)
    for i in range(8 * n_words, n_bytes):
        data[i] ^= (<uint8_t *>&key)[i & 3]


cdef inline void xor_copy(uint8_t *to, const uint8_t *data, size_t n_bytes, uint32_t key) noexcept nogil:
    # Not one function with the one above: gcc's vector code is for pointers that do not meet.
    cdef uint64_t word
    cdef uint64_t wide = <uint64_t>key << 32 | key
    cdef size_t i
    cdef size_t n_words = n_bytes >> 3
    if key == 0:
        memcpy(to, data, n_bytes)
        return
    for i in range(n_words):
        memcpy(&word, data + 8 * i, 8)
        word ^= wide
        memcpy(to + 8 * i, &word, 8)
    for i in range(8 * n_words, n_bytes):
        to[i] = data[i] ^ (<uint8_t *>&key)[i & 3]


cdef inline uint32_t key_from(uint32_t key, uint64_t n_bytes) noexcept nogil:
    """Return the key for what follows after `n_bytes`."""
    cdef uint8_t twice[8]
    memcpy(twice, &key, 4)
    memcpy(twice + 4, &key, 4)
    memcpy(&key, twice + (n_bytes & 3), 4)
    return key
