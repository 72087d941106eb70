"""The link: packing OUTPUT, receiving it into rings."""

import json
import struct
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "frames.json").read_text()
)["mux"]
CAPACITY = 65_536
MAX_DATA = 65_512
OUTPUT = 1


class OneMask:
    """Stands in for os.urandom, so that every masking key is this one."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def __call__(self, n_bytes: int) -> bytes:
        return self.key * (n_bytes // 4)


def mux(stream: int, data: bytes, *, kind: int = OUTPUT, head: bytes = b"\x00\x00\x00") -> bytes:
    payload = bytes([kind]) + head + struct.pack("!L", stream) + data
    return Frame(Opcode.BINARY, payload).serialize(mask=True)


def received_by_the_library(frames: bytes) -> list[bytes]:
    """Give the payloads that websockets makes of a client's bytes; any fault of theirs fails the protocol."""
    server = ServerProtocol(state=OPEN, max_size=None)
    server.receive_data(frames)
    assert server.parser_exc is None
    events = server.events_received()
    assert all(isinstance(event, Frame) and event.fin and event.opcode is Opcode.BINARY for event in events)
    return [bytes(event.data) for event in events if isinstance(event, Frame)]


@pytest.fixture
def receiver(fastpath: ModuleType) -> Any:
    return fastpath.MuxReceiver(masked=True, max_payload_bytes=65_520)


# ---- pack_frame


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(fastpath: ModuleType, vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes.fromhex(vector["mask"])
    monkeypatch.setattr("os.urandom", OneMask(key))
    masks = fastpath.MaskSource() if any(key) else None
    data = bytes.fromhex(vector["data"])
    assert fastpath.pack_frame(vector["kind"], vector["stream"], data, masks).hex() == vector["bytes"]


@given(
    kind=st.integers(0, 255),
    stream=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=300) | st.sampled_from([bytes(MAX_DATA), bytes(117), bytes(118)]),
    masked=st.booleans(),
)
def test_a_packed_frame_is_what_the_library_writes(
    fastpath: ModuleType, kind: int, stream: int, data: bytes, masked: bool
) -> None:
    packed = fastpath.pack_frame(kind, stream, data, fastpath.MaskSource() if masked else None)
    payload = bytes([kind, 0, 0, 0]) + struct.pack("!L", stream) + data
    if masked:
        assert received_by_the_library(packed) == [payload]
    else:
        assert packed == Frame(Opcode.BINARY, payload).serialize(mask=False)


def test_pack_frame_refuses_what_fits_in_no_frame(fastpath: ModuleType) -> None:
    with pytest.raises(ValueError, match="65513 bytes"):
        fastpath.pack_frame(1, 1, bytes(MAX_DATA + 1), None)
    for kind, stream in ((256, 1), (-1, 1), (1, 2**32), (1, -1)):
        with pytest.raises(OverflowError):
            fastpath.pack_frame(kind, stream, b"", None)
    with pytest.raises(TypeError):
        fastpath.pack_frame(1, 1, "text", None)


# ---- pack_output


@settings(deadline=None)
@given(
    start=st.integers(0, 2**40),
    data=st.binary(max_size=400) | st.integers(65_000, 140_000).map(lambda n: (b"pattern" * n)[:n]),
    stream=st.integers(0, 2**32 - 1),
    spaces=st.lists(
        st.integers(0, 300) | st.sampled_from([65_519, 65_528, 65_529, 200_000]), min_size=1, max_size=5
    ),
    offset=st.integers(0, 9),
)
def test_output_comes_out_of_ring_and_library_as_it_went_in(
    fastpath: ModuleType, start: int, data: bytes, stream: int, spaces: list[int], offset: int
) -> None:
    masks = fastpath.MaskSource()
    frames = b""
    with closing(fastpath.ByteRing(262_144, offset=start)) as ring:
        ring.append(data)
        at = start
        for space in [*spaces, 300_000]:
            out = bytearray(b"#" * (offset + space))
            end, after = fastpath.pack_output(out, offset, ring, at, ring.head, stream, masks)
            assert out[:offset] == b"#" * offset
            assert set(out[end:]) <= {ord("#")}
            # What fits is used.
            assert after == ring.head or len(out) - end < 15
            frames += out[offset:end]
            at = after
        assert at == ring.head

    payloads = received_by_the_library(frames)
    assert all(8 < len(payload) <= 65_520 for payload in payloads)
    assert {payload[:8] for payload in payloads} <= {b"\x01\x00\x00\x00" + struct.pack("!L", stream)}
    assert b"".join(payload[8:] for payload in payloads) == data

    receiver = fastpath.MuxReceiver(masked=True, max_payload_bytes=65_520)
    with closing(fastpath.ByteRing(262_144, offset=start)) as ring:
        receiver.open(stream, ring, "tag")
        assert receiver.receive(frames, 0, len(frames)) == (len(frames), fastpath.MORE)
        assert ring.view(start, ring.head) == data
    assert (receiver.frames, receiver.output_bytes) == (len(payloads), len(data))


@pytest.mark.parametrize(
    ("n_bytes", "space", "packed"),
    [
        (1, 15, 1),
        (1, 14, 0),
        (117, 131, 117),
        (118, 134, 118),
        (118, 133, 117),
        (118, 131, 117),
        (118, 130, 116),
    ],
)
def test_no_space_is_left_unused(fastpath: ModuleType, n_bytes: int, space: int, packed: int) -> None:
    # Six bytes of header up to a payload of 125 (117 and the mux header), eight above.
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(bytes(n_bytes))
        _, start = fastpath.pack_output(bytearray(space), 0, ring, 0, n_bytes, 1, fastpath.MaskSource())
        assert start == packed


def test_output_is_masked_with_a_new_key_each_frame(fastpath: ModuleType) -> None:
    out = bytearray(400_000)
    with closing(fastpath.ByteRing(262_144)) as ring:
        ring.append(bytes(262_144))
        end, _ = fastpath.pack_output(out, 0, ring, 0, ring.head, 1, fastpath.MaskSource())
    keys = []
    pos = 0
    while pos < end:
        status, _, pos, mask = fastpath.scan_frame(out, pos, end, True, 65_520)
        assert status == fastpath.FAST
        keys.append(mask)
    assert len(set(keys)) == len(keys) == 5
    assert 0 not in keys


def test_pack_output_refuses_bad_arguments(fastpath: ModuleType) -> None:
    masks = fastpath.MaskSource()
    out = bytearray(100)
    with closing(fastpath.ByteRing(CAPACITY, offset=10)) as ring:
        ring.append(b"abc")
        for pos, start, end in (
            (-1, 10, 13),
            (101, 10, 13),
            (0, 9, 13),
            (0, 10, 14),
            (0, 13, 10),
            (0, -1, -1),
        ):
            with pytest.raises(IndexError):
                fastpath.pack_output(out, pos, ring, start, end, 1, masks)
        with pytest.raises(OverflowError):
            fastpath.pack_output(out, 0, ring, 10, 13, 2**32, masks)
        with pytest.raises(BufferError):
            fastpath.pack_output(bytes(100), 0, ring, 10, 13, 1, masks)
        assert fastpath.pack_output(out, 100, ring, 10, 13, 1, masks) == (100, 10)
        assert fastpath.pack_output(out, 5, ring, 13, 13, 1, masks) == (5, 13)
    assert out == bytes(100)


def test_the_compiled_module_takes_no_other_types() -> None:
    from agentrelay import _fastpath as compiled

    masks: Any = compiled.MaskSource()
    wrong: Any
    receiver: compiled.MuxReceiver[str] = compiled.MuxReceiver(masked=True, max_payload_bytes=100)
    with closing(compiled.ByteRing(CAPACITY)) as ring:
        ring.append(b"abc")
        for wrong in (None, "ring", masks):
            with pytest.raises(TypeError):
                compiled.pack_output(bytearray(100), 0, wrong, 0, 0, 1, masks)
            with pytest.raises(TypeError):
                compiled.write_frames(0, wrong, 0, 1, 1)
            with pytest.raises(TypeError):
                receiver.open(1, wrong, "tag")
        for wrong in (None, "masks", ring):
            with pytest.raises(TypeError):
                compiled.pack_output(bytearray(100), 0, ring, 0, 3, 1, wrong)
        for wrong in ("masks", ring):
            with pytest.raises(TypeError):
                compiled.pack_frame(1, 1, b"", wrong)


# ---- MuxReceiver


class Stream:
    def __init__(self, ring: Any) -> None:
        self.ring = ring
        self.content = b""
        self.skip = 0
        self.limit = 2**63 - 1
        self.keep = 2**63 - 1


steps = st.one_of(
    st.tuples(st.just("output"), st.integers(0, 5), st.binary(max_size=300)),
    st.tuples(st.just("output"), st.integers(0, 5), st.integers(0, MAX_DATA).map(bytes)),
    st.tuples(st.just("skip"), st.integers(0, 3), st.integers(0, 500)),
    st.tuples(st.just("limit"), st.integers(0, 3), st.integers(0, 300)),
    st.tuples(st.just("keep"), st.integers(0, 3), st.integers(0, 70_000)),
    st.tuples(st.just("text"), st.just(0), st.binary(max_size=10)),
    st.tuples(st.just("ack"), st.integers(0, 3), st.binary(max_size=10)),
    st.tuples(st.just("touched"), st.just(0), st.just(b"")),
)


@settings(deadline=None)
@given(steps=st.lists(steps, max_size=25), piece_bytes=st.sampled_from([1, 3, 100, 70_000, 10**7]))
def test_receiver_does_what_a_loop_over_frames_would(
    fastpath: ModuleType, steps: list[tuple[str, int, Any]], piece_bytes: int
) -> None:
    if sum(len(value) for _, _, value in steps if isinstance(value, bytes)) > 2000:
        piece_bytes = max(piece_bytes, 100)
    receiver = fastpath.MuxReceiver(masked=True, max_payload_bytes=65_520)
    with ExitStack() as stack:
        # Ids that share a place in any table of a power of two.
        streams = {
            i * 65_536: Stream(stack.enter_context(closing(fastpath.ByteRing(CAPACITY)))) for i in range(4)
        }
        for stream_id, stream in streams.items():
            receiver.open(stream_id, stream.ring, stream_id)
        touched: list[int] = []
        frames = 0
        for what, number, value in steps:
            stream_id = number * 65_536
            stream = streams.get(stream_id, Stream(None))
            if what == "skip":
                stream.skip = value
                receiver.skip(stream_id, value)
                continue
            if what == "limit":
                stream.limit = len(stream.content) + value
                receiver.set_limit(stream_id, stream.limit)
                continue
            if what == "keep":
                stream.keep = stream.ring.keep = max(0, len(stream.content) - value)
                continue
            if what == "touched":
                assert receiver.take_touched() == touched
                touched.clear()
                continue

            expected = fastpath.MORE
            if what == "text":
                frame = Frame(Opcode.TEXT, value).serialize(mask=True)
                expected = fastpath.SLOW
            elif what == "ack":
                frame = mux(stream_id, value, kind=3)
                expected = fastpath.SLOW
            else:
                frame = mux(stream_id, value)
                data = value[stream.skip :]
                kept = len(stream.content) - max(stream.keep, len(stream.content) - CAPACITY, 0)
                if stream.ring is None:
                    expected = fastpath.SLOW
                elif data and (
                    len(data) > CAPACITY - max(kept, 0) or len(stream.content) + len(data) > stream.limit
                ):
                    expected = fastpath.OVERFLOW
                else:
                    frames += 1
                    stream.skip -= len(value) - len(data)
                    stream.content += data
                    if data and stream_id not in touched:
                        touched.append(stream_id)

            # In pieces, as a socket would give it, behind something that was taken before.
            received = bytearray(b"###")
            pos, status = 3, fastpath.MORE
            for i in range(0, len(frame), piece_bytes):
                assert (pos, status) == (3, fastpath.MORE) or expected == fastpath.SLOW
                received += frame[i : i + piece_bytes]
                pos, status = receiver.receive(received, pos, len(received))
            assert status == expected
            assert pos == (len(received) if expected == fastpath.MORE else 3)
        for stream in streams.values():
            base = stream.ring.base
            assert stream.ring.head == len(stream.content)
            assert stream.ring.view(base, stream.ring.head) == stream.content[base:]
        assert receiver.take_touched() == touched
        assert receiver.frames == frames


def test_takes_many_frames_of_many_streams_in_one_call(fastpath: ModuleType, receiver: Any) -> None:
    with ExitStack() as stack:
        rings = {i: stack.enter_context(closing(fastpath.ByteRing(CAPACITY))) for i in range(1, 600)}
        for i, ring in rings.items():
            receiver.open(i, ring, f"tag {i}")
        buffer = b"".join(mux(i, b"%d-%d " % (i, turn)) for turn in range(3) for i in rings)
        tail = mux(1, b"cut")[:-1]
        assert receiver.receive(buffer + tail, 0, len(buffer + tail)) == (len(buffer), fastpath.MORE)
        for i, ring in rings.items():
            assert ring.view(0, ring.head) == b"%d-0 %d-1 %d-2 " % (i, i, i)
        assert receiver.take_touched() == [f"tag {i}" for i in rings]
        assert receiver.take_touched() == []
        assert receiver.frames == 3 * len(rings)


@pytest.mark.parametrize(
    "frame",
    [
        mux(1, b"data", head=b"\x01\x00\x00"),
        mux(1, b"data", head=b"\x00\x01\x00"),
        mux(1, b"data", head=b"\x00\x00\x80"),
        mux(1, b"data", kind=0),
        mux(1, b"data", kind=2),
        mux(2, b"data"),
        Frame(Opcode.BINARY, b"\x01\x00\x00\x00\x00\x00\x00").serialize(mask=True),
        Frame(Opcode.BINARY, b"").serialize(mask=True),
        Frame(Opcode.BINARY, mux(1, b"data")[6:]).serialize(mask=False),
        Frame(Opcode.BINARY, b"\x01\x00\x00\x00\x00\x00\x00\x01" + bytes(65_513)).serialize(mask=True),
    ],
    ids=[
        "flags",
        "reserved",
        "reserved, second byte",
        "kind 0",
        "INPUT",
        "stream not open",
        "shorter than its header",
        "empty",
        "not masked",
        "too large",
    ],
)
def test_leaves_other_frames_to_the_caller(fastpath: ModuleType, receiver: Any, frame: bytes) -> None:
    good = mux(1, b"good")
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        receiver.open(1, ring, "tag")
        assert receiver.receive(good + frame, 0, len(good + frame)) == (len(good), fastpath.SLOW)
        assert ring.view(0, ring.head) == b"good"
        assert receiver.frames == 1


def test_overflow_leaves_the_frame_and_everything_else_as_it_was(fastpath: ModuleType, receiver: Any) -> None:
    with closing(fastpath.ByteRing(CAPACITY, offset=1000)) as ring:
        receiver.open(7, ring, "tag")
        receiver.set_limit(7, 1010)
        receiver.skip(7, 2)
        buffer = mux(7, b"..0123456789") + mux(7, b"x") + mux(7, b"y")
        first = len(mux(7, b"..0123456789"))
        for _ in range(2):
            assert receiver.receive(buffer, 0, first) == (first, fastpath.MORE) or ring.head == 1010
            assert receiver.receive(buffer, first, len(buffer)) == (first, fastpath.OVERFLOW)
        assert ring.view(1000, 1010) == b"0123456789"
        receiver.set_limit(7, 1012)
        assert receiver.receive(buffer, first, len(buffer)) == (len(buffer), fastpath.MORE)
        assert ring.view(1000, 1012) == b"0123456789xy"


def test_overflow_where_bytes_must_be_kept(fastpath: ModuleType, receiver: Any) -> None:
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        receiver.open(7, ring, "tag")
        ring.append(bytes(CAPACITY))
        ring.keep = 5
        frame = mux(7, b"123456")
        assert receiver.receive(frame, 0, len(frame)) == (0, fastpath.OVERFLOW)
        ring.keep = 6
        assert receiver.receive(frame, 0, len(frame)) == (len(frame), fastpath.MORE)


@pytest.mark.parametrize("skipped", range(9))
def test_skips_bytes_whatever_the_phase_of_the_mask(
    fastpath: ModuleType, receiver: Any, skipped: int
) -> None:
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        receiver.open(7, ring, "tag")
        receiver.skip(7, skipped)
        frame = mux(7, b"0123456789")
        receiver.receive(frame, 0, len(frame))
        assert ring.view(0, ring.head) == b"0123456789"[skipped:]


def test_skips_over_several_frames(fastpath: ModuleType, receiver: Any) -> None:
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        receiver.open(7, ring, "tag")
        receiver.skip(7, 7)
        for data in (b"abc", b"", b"def"):
            frame = mux(7, data)
            assert receiver.receive(frame, 0, len(frame)) == (len(frame), fastpath.MORE)
        assert receiver.take_touched() == []
        frame = mux(7, b"ghi")
        receiver.receive(frame, 0, len(frame))
        assert ring.view(0, ring.head) == b"hi"
        assert receiver.take_touched() == ["tag"]
        assert (receiver.frames, receiver.output_bytes) == (4, 2)


def test_into_a_shared_ring(fastpath: ModuleType, receiver: Any, ring_memory: int) -> None:
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        ring.recover()
        receiver.open(7, ring, "tag")
        data = bytes(range(251)) * 260
        frame = mux(7, data)
        assert receiver.receive(frame, 0, len(frame)) == (len(frame), fastpath.MORE)
        assert ring.view(0, len(data)) == data
        assert receiver.receive(frame, 0, len(frame)) == (0, fastpath.OVERFLOW)


def test_frames_without_masks(fastpath: ModuleType) -> None:
    receiver = fastpath.MuxReceiver(masked=False, max_payload_bytes=65_520)
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        receiver.open(7, ring, "tag")
        frame = fastpath.pack_frame(OUTPUT, 7, b"plain", None)
        assert receiver.receive(frame, 0, len(frame)) == (len(frame), fastpath.MORE)
        assert ring.view(0, 5) == b"plain"


def test_closing(fastpath: ModuleType, receiver: Any) -> None:
    frame = mux(7, b"data")
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        receiver.open(7, ring, "first")
        receiver.receive(frame, 0, len(frame))
        receiver.close(7)
        assert receiver.receive(frame, 0, len(frame)) == (0, fastpath.SLOW)
        # Its bytes were not told of yet.
        assert receiver.take_touched() == ["first"]
        receiver.open(7, ring, "second")
        assert receiver.receive(frame, 0, len(frame)) == (len(frame), fastpath.MORE)
        assert receiver.take_touched() == ["second"]
    assert receiver.receive(frame, 0, len(frame)) == (0, fastpath.SLOW)


def test_streams_that_are_not_open_or_no_ids(fastpath: ModuleType, receiver: Any) -> None:
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        receiver.open(7, ring, "tag")
        with pytest.raises(ValueError, match="open already"):
            receiver.open(7, ring, "tag")
        for stream in (-1, 2**32):
            with pytest.raises(OverflowError):
                receiver.open(stream, ring, "tag")
    with pytest.raises(KeyError):
        receiver.close(8)
    with pytest.raises(KeyError):
        receiver.set_limit(8, 0)
    with pytest.raises(KeyError):
        receiver.skip(8, 0)
    with pytest.raises(ValueError, match="negative"):
        receiver.set_limit(7, -1)
    with pytest.raises(ValueError, match="negative"):
        receiver.skip(7, -1)
    with pytest.raises(ValueError, match="negative"):
        fastpath.MuxReceiver(masked=True, max_payload_bytes=-1)
    for start, end in ((-1, 0), (1, 0), (0, 5)):
        with pytest.raises(IndexError):
            receiver.receive(b"abcd", start, end)
