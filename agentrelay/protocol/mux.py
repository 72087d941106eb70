"""Mux frames: how the sessions of one runner share its link (docs/protocol.md section 3.1).

The bulk direction (OUTPUT) never passes through here: the compiled hot path packs and unpacks it. This is the
readable side for the small frames.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from agentrelay.errors import ProtocolError
from agentrelay.protocol.ids import StreamId

MAX_LINK_PAYLOAD_BYTES = 65_520
"""Largest payload of a link's binary frame, mux header included: fits a 16-bit length, divisible by 16."""

HEADER_BYTES = 8
MAX_DATA_BYTES = MAX_LINK_PAYLOAD_BYTES - HEADER_BYTES

_HEADER = struct.Struct(">BBHI")
_ACK = struct.Struct(">QQ")
_OFFSET = struct.Struct(">Q")


class Kind(IntEnum):
    """What a mux frame carries."""

    OUTPUT = 1
    INPUT = 2
    ACK = 3
    INPUT_ACK = 4


class MuxFrame(NamedTuple):
    """A mux frame taken apart; `data` is a view into the caller's buffer and lives as long as that does."""

    kind: int
    stream: StreamId
    data: memoryview


def unpack(payload: memoryview) -> MuxFrame:
    """Take the payload of a link's binary frame apart.

    Raises:
        ProtocolError: it is shorter than its header, or a byte that has to be zero is not.
    """
    if len(payload) < HEADER_BYTES:
        raise ProtocolError(
            "bad_message", f"a mux frame has {HEADER_BYTES} bytes or more, not {len(payload)}"
        )
    kind, flags, reserved, stream = _HEADER.unpack_from(payload)
    if flags or reserved:
        raise ProtocolError("bad_message", f"a mux frame has flags {flags} and reserved {reserved}, not 0")
    return MuxFrame(kind, StreamId(stream), payload[HEADER_BYTES:])


def pack_ack(acked: int, limit: int) -> bytes:
    """Give the data of an ACK frame: bytes before `acked` are safe, bytes before `limit` may be sent."""
    return _ACK.pack(acked, limit)


def unpack_ack(data: memoryview) -> tuple[int, int]:
    """Give `(acked, limit)` of an ACK frame.

    Raises:
        ProtocolError: the data has not the size of an ACK.
    """
    if len(data) != _ACK.size:
        raise ProtocolError("bad_message", f"ACK carries {_ACK.size} bytes, not {len(data)}")
    acked, limit = _ACK.unpack(data)
    return acked, limit


def pack_offset(offset: int) -> bytes:
    """Give the data of an INPUT_ACK frame."""
    return _OFFSET.pack(offset)


def unpack_offset(data: memoryview) -> int:
    """Give the offset of an INPUT_ACK frame.

    Raises:
        ProtocolError: the data has not the size of an offset.
    """
    if len(data) != _OFFSET.size:
        raise ProtocolError("bad_message", f"INPUT_ACK carries {_OFFSET.size} bytes, not {len(data)}")
    (offset,) = _OFFSET.unpack(data)
    return int(offset)
