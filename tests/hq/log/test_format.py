"""Headers and records survive the trip through bytes, and damage never passes for data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.hq.log.format import (
    MAX_RECORD_DATA_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    BadFormat,
    End,
    Gap,
    Input,
    Mark,
    Output,
    Record,
    Resize,
    SegmentHeader,
    decode_record,
    decode_record_header,
    decode_segment_header,
    encode_record,
    encode_segment_header,
)

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
u16 = st.integers(0, 2**16 - 1)
status = st.none() | st.integers(-(2**31) + 1, 2**31 - 1)
ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=16)
headers = st.builds(SegmentHeader, ids, ids, u32, u64, u64, u64, u16, u16)
records = st.one_of(
    st.builds(Output, u64, u64, st.binary(max_size=500)),
    st.builds(Resize, u64, u64, u16, u16),
    st.builds(Input, u64, u64, ids, u32, st.none() | st.binary(max_size=100)),
    st.builds(Gap, u64, u64, u64),
    st.builds(Mark, u64, u64, u64, u16, u16),
    st.builds(End, u64, u64, status, status),
)


def decode(data: bytes) -> Record:
    return decode_record(decode_record_header(data), data[RECORD_HEADER_BYTES:])


@given(headers)
def test_a_segment_header_survives_the_trip(header: SegmentHeader) -> None:
    data = encode_segment_header(header)
    assert len(data) == SEGMENT_HEADER_BYTES
    assert decode_segment_header(data) == header


@given(records)
def test_a_record_survives_the_trip(record: Record) -> None:
    assert decode(encode_record(record)) == record


@given(records, st.data())
def test_one_flipped_bit_is_noticed(record: Record, data: st.DataObject) -> None:
    damaged = bytearray(encode_record(record))
    bit = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadFormat):
        decode(bytes(damaged))


@given(headers, st.integers(0, SEGMENT_HEADER_BYTES * 8 - 1))
def test_one_flipped_bit_of_a_segment_header_is_noticed(header: SegmentHeader, bit: int) -> None:
    damaged = bytearray(encode_segment_header(header))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadFormat):
        decode_segment_header(bytes(damaged))


@given(st.binary(max_size=400))
def test_garbage_is_neither_header_nor_record(data: bytes) -> None:
    with pytest.raises(BadFormat):
        decode_segment_header(data)
    with pytest.raises(BadFormat):
        decode_record_header(data)


def test_data_is_valid_behind_its_own_header_only() -> None:
    one, other = encode_record(Output(0, 1, b"same")), encode_record(Output(4, 1, b"same"))
    with pytest.raises(BadFormat):
        decode_record(decode_record_header(one), other[RECORD_HEADER_BYTES:] + b"!")
    swapped = one[:28] + other[28:32] + b"same"
    with pytest.raises(BadFormat):
        decode(swapped)


@pytest.mark.parametrize(
    "record",
    [
        Output(0, 0, bytes(MAX_RECORD_DATA_BYTES + 1)),
        Resize(0, 0, 70_000, 80),
        Resize(-1, 0, 24, 80),
        Input(0, 0, "v" * 256, 1, None),
        Gap(0, 0, 2**64),
        End(0, 0, 2**31, None),
    ],
)
def test_what_does_not_fit_is_refused(record: Record) -> None:
    with pytest.raises(ValueError, match=r"at most|does not fit"):
        encode_record(record)


@pytest.mark.parametrize("session_id", ["x" * 65, "ü" * 33, "a\0b"])
def test_an_id_that_does_not_fit_is_refused(session_id: str) -> None:
    with pytest.raises(ValueError, match="an id in the log"):
        encode_segment_header(SegmentHeader(session_id, "e", 0, 0, 0, 0, 24, 80))
