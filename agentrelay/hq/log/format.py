"""The bytes of a segment file: encode and decode, no I/O (docs/log-format.md).

A segment is a header and records, laid into blocks of 256 KiB that no record crosses. A block begins with a
MARK, so that a reader can start at any block: to seek, to recover, and to go on behind damage. A record's
header carries a check of itself and one of its data, so that damage to data costs that record only.
"""

import enum
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

MAGIC: Final = b"AGRLOG\r\n"  # the line end shows a transfer in text mode
VERSION: Final = 1
SEGMENT_HEADER_BYTES: Final = 256
RECORD_HEADER_BYTES: Final = 32
BLOCK_BYTES: Final = 256 * 1024
"""Large enough that a record's cost does not count, small enough to be read for any seek or recovery."""

MARK_BYTES: Final = RECORD_HEADER_BYTES + 12
MAX_RECORD_DATA_BYTES: Final = BLOCK_BYTES - MARK_BYTES - RECORD_HEADER_BYTES
"""The data of one record; a longer run of output becomes several records."""

MAX_ID_BYTES: Final = 64
MAX_OFFSET: Final = (1 << 64) - 1

_SEGMENT = struct.Struct(">8sHHIQQQHHI64s64s")
_RECORD = struct.Struct(">BBHIQQ")
_CHECKS = struct.Struct(">II")
_WHOLE_RECORD = struct.Struct(">BBHIQQII")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_SIZE = struct.Struct(">HH")
_END = struct.Struct(">ii")
_MARK = struct.Struct(">QHH")
_UNKNOWN: Final = -(1 << 31)  # an exit code or signal that nobody knows

INPUT_HAS_BYTES: Final = 1
"""Flag of an INPUT record: the input bytes themselves follow."""


class Kind(enum.IntEnum):
    """What a record tells."""

    OUTPUT = 1
    RESIZE = 2
    INPUT = 3
    GAP = 4
    END = 5
    MARK = 6


class BadFormat(ValueError):
    """These bytes are no header or record, or not one whose checks hold."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first 256 bytes of a segment.

    Attributes:
        session_id: at most 64 bytes of UTF-8.
        epoch: at most 64 bytes of UTF-8.
        serial: number of the segment within its session, from 0.
        first_offset: where the log stood when the segment was begun.
        output_before_bytes: output recorded in earlier segments, gaps not counted.
        created_us: unix time.
        rows: size of the PTY at `first_offset`.
        cols: likewise.
    """

    session_id: str
    epoch: str
    serial: int
    first_offset: int
    output_before_bytes: int
    created_us: int
    rows: int
    cols: int


class RecordHeader(NamedTuple):
    """The first 32 bytes of a record, checked."""

    kind: int
    flags: int
    data_bytes: int
    offset: int
    time_us: int
    head_check: int
    data_check: int

    @property
    def record_bytes(self) -> int:
        """Length of the whole record."""
        return RECORD_HEADER_BYTES + self.data_bytes


@dataclass(frozen=True, slots=True)
class Output:
    """Output bytes that begin at `offset`; `time_us` is when the first of them arrived."""

    offset: int
    time_us: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """From `offset` on the PTY has this size."""

    offset: int
    time_us: int
    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class Input:
    """`viewer` sent `n_bytes` of input when the output stood at `offset`.

    Attributes:
        data: the bytes, or None where recording them is off.
    """

    offset: int
    time_us: int
    viewer: str
    n_bytes: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Gap:
    """The output from `offset` up to `end` is lost."""

    offset: int
    time_us: int
    end: int


@dataclass(frozen=True, slots=True)
class End:
    """The program ended after `offset` bytes of output; None is not known."""

    offset: int
    time_us: int
    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class Mark:
    """Begins every block but a segment's first: where the log stood.

    Attributes:
        output_bytes: output recorded in the whole log so far, gaps not counted.
        rows: size of the PTY here.
        cols: likewise.
    """

    offset: int
    time_us: int
    output_bytes: int
    rows: int
    cols: int


Record = Output | Resize | Input | Gap | End | Mark


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Encode a segment header.

    Raises:
        ValueError: an id is longer than 64 bytes of UTF-8 or has a NUL in it.
    """
    body = _SEGMENT.pack(
        MAGIC,
        VERSION,
        SEGMENT_HEADER_BYTES,
        header.serial,
        header.first_offset,
        header.output_before_bytes,
        header.created_us,
        header.rows,
        header.cols,
        0,
        _id_bytes(header.session_id),
        _id_bytes(header.epoch),
    ).ljust(SEGMENT_HEADER_BYTES - 8, b"\0")
    return body + _U64.pack(xxh3_64_intdigest(body))


def decode_segment_header(data: bytes | memoryview) -> SegmentHeader:
    """Decode the first 256 bytes of a segment.

    Raises:
        BadFormat: too short, not a segment, another version, or the check fails.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise BadFormat(f"a segment header has {SEGMENT_HEADER_BYTES} bytes, here are {len(data)}")
    body = data[: SEGMENT_HEADER_BYTES - 8]
    (magic, version, size, serial, first, before, created, rows, cols, _, session_id, epoch) = (
        _SEGMENT.unpack_from(body)
    )
    if magic != MAGIC:
        raise BadFormat("not a segment of an output log")
    if (version, size) != (VERSION, SEGMENT_HEADER_BYTES):
        raise BadFormat(f"segment of version {version}; this program reads version {VERSION}")
    if _U64.unpack_from(data, SEGMENT_HEADER_BYTES - 8)[0] != xxh3_64_intdigest(body):
        raise BadFormat("the check of the segment header fails")
    try:
        ids = session_id.rstrip(b"\0").decode(), epoch.rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise BadFormat(f"an id is not UTF-8: {error}") from None
    return SegmentHeader(ids[0], ids[1], serial, first, before, created, rows, cols)


def _id_bytes(value: str) -> bytes:
    data = value.encode()
    if len(data) > MAX_ID_BYTES or b"\0" in data:
        raise ValueError(f"an id in the log has at most {MAX_ID_BYTES} bytes and no NUL: {value!r}")
    return data


def encode_record_header(
    kind: int, offset: int, time_us: int, data: bytes | memoryview, *, flags: int = 0
) -> bytes:
    """Encode the header of a record whose data is `data`, which is only read during the call."""
    head = _RECORD.pack(kind, flags, 0, len(data), offset, time_us)
    head_check = xxh3_64_intdigest(head) & 0xFFFFFFFF
    # Seeded with the header's check, so that data is valid behind its own header only.
    return head + _CHECKS.pack(head_check, xxh3_64_intdigest(data, head_check) & 0xFFFFFFFF)


def decode_record_header(data: bytes | memoryview, at: int = 0) -> RecordHeader:
    """Decode the record header at `data[at:]`.

    Raises:
        BadFormat: fewer than 32 bytes are there, the check fails, or a field is out of its range.
    """
    if len(data) - at < RECORD_HEADER_BYTES:
        raise BadFormat("a record header is cut short")
    fields = _WHOLE_RECORD.unpack_from(data, at)
    kind, flags, zero, data_bytes, offset, time_us, head_check, data_check = fields
    if xxh3_64_intdigest(data[at : at + _RECORD.size]) & 0xFFFFFFFF != head_check:
        raise BadFormat("the check of a record header fails")
    if zero or data_bytes > MAX_RECORD_DATA_BYTES:
        raise BadFormat(f"record of kind {kind} with {data_bytes} bytes")
    return RecordHeader(kind, flags, data_bytes, offset, time_us, head_check, data_check)


def data_is_intact(header: RecordHeader, data: bytes | memoryview) -> bool:
    """Tell whether `data` is what was written behind `header`."""
    return (
        len(data) == header.data_bytes
        and xxh3_64_intdigest(data, header.head_check) & 0xFFFFFFFF == header.data_check
    )


def decode_record(header: RecordHeader, data: bytes | memoryview) -> Record:
    """Decode a record.

    Raises:
        BadFormat: the check of the data fails, or the data is not what the kind asks for.
    """
    if not data_is_intact(header, data):
        raise BadFormat(f"the check of the record at offset {header.offset} fails")
    offset, time_us = header.offset, header.time_us
    try:
        match header.kind:
            case Kind.OUTPUT:
                return Output(offset, time_us, bytes(data))
            case Kind.RESIZE:
                rows, cols = _SIZE.unpack(data)
                return Resize(offset, time_us, rows, cols)
            case Kind.GAP:
                return Gap(offset, time_us, _U64.unpack(data)[0])
            case Kind.END:
                exit_code, signal = (None if value == _UNKNOWN else value for value in _END.unpack(data))
                return End(offset, time_us, exit_code, signal)
            case Kind.MARK:
                return Mark(offset, time_us, *_MARK.unpack(data))
            case Kind.INPUT:
                return _decode_input(header, bytes(data))
    except (struct.error, UnicodeDecodeError) as error:
        raise BadFormat(f"record of kind {header.kind} at offset {offset}: {error}") from None
    raise BadFormat(f"record of unknown kind {header.kind} at offset {offset}")


def _decode_input(header: RecordHeader, data: bytes) -> Input:
    (n_bytes,) = _U32.unpack_from(data)
    name_end = 5 + data[4] if len(data) > 4 else len(data) + 1
    if name_end > len(data):
        raise BadFormat(f"INPUT record at offset {header.offset} is cut short")
    viewer = data[5:name_end].decode()
    typed = data[name_end:] if header.flags & INPUT_HAS_BYTES else None
    return Input(header.offset, header.time_us, viewer, n_bytes, typed)


def encode_record(record: Record) -> bytes:
    """Encode a whole record.

    Raises:
        ValueError: a value does not fit its field.
    """
    flags = 0
    data: bytes
    try:
        match record:
            case Output():
                kind, data = Kind.OUTPUT, record.data
            case Resize():
                kind, data = Kind.RESIZE, _SIZE.pack(record.rows, record.cols)
            case Input():
                kind, data = Kind.INPUT, _encode_input(record)
                flags = 0 if record.data is None else INPUT_HAS_BYTES
            case Gap():
                kind, data = Kind.GAP, _U64.pack(record.end)
            case End():
                status = (_UNKNOWN if v is None else v for v in (record.exit_code, record.signal))
                kind, data = Kind.END, _END.pack(*status)
            case Mark():
                kind, data = Kind.MARK, _MARK.pack(record.output_bytes, record.rows, record.cols)
        header = encode_record_header(kind, record.offset, record.time_us, data, flags=flags)
    except struct.error as error:
        raise ValueError(f"{record!r} does not fit: {error}") from None
    if len(data) > MAX_RECORD_DATA_BYTES:
        raise ValueError(f"a record has at most {MAX_RECORD_DATA_BYTES} bytes of data, not {len(data)}")
    return header + data


def _encode_input(record: Input) -> bytes:
    viewer = record.viewer.encode()
    if len(viewer) > 255:
        raise ValueError(f"the name of a viewer has at most 255 bytes: {record.viewer!r}")
    return _U32.pack(record.n_bytes) + bytes([len(viewer)]) + viewer + (record.data or b"")
