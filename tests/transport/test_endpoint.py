"""Endpoint: bytes in, messages out, without a socket or a clock of its own.

A second connection of the `websockets` library is the peer and the judge of what the endpoint answers.
"""

import itertools
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay import fastpath
from agentrelay.errors import ProtocolError
from agentrelay.transport import endpoint as endpoint_module
from agentrelay.transport.endpoint import (
    CLOSE_S,
    DEPARTURES_A_TURN,
    FULL_READS,
    HIGH_WATER_BYTES,
    ITERATION_S,
    MAX_MESSAGE_BYTES,
    MAX_QUEUED_BYTES,
    SLOW_COST,
    TURN_COST,
    Departures,
)
from tests.transport.fakes import Event, FakeLoop, Wire, running

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
SIDES = pytest.mark.parametrize("masked", [True, False], ids=["server", "client"])


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2) + reason.encode()


# --- messages -------------------------------------------------------------------------------------


@SIDES
def test_messages_arrive_in_their_order(masked: bool) -> None:
    wire = Wire(masked=masked)

    wire.feed(
        wire.frame(TEXT, b'{"a":1}')
        + wire.frame(BINARY, b"one")
        + wire.frame(BINARY, b"")
        + wire.frame(TEXT, b"")
        + wire.frame(BINARY, b"two")
    )

    assert wire.heard.events == [
        ("text", b'{"a":1}'),
        ("binary", b"one"),
        ("binary", b""),
        ("text", b""),
        ("binary", b"two"),
    ]


@SIDES
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_in_fragments_arrives_whole(masked: bool, opcode: int) -> None:
    wire = Wire(masked=masked)

    wire.feed(
        wire.frame(opcode, b"he", fin=False)
        + wire.frame(PING, b"?")
        + wire.frame(CONT, b"", fin=False)
        + wire.frame(CONT, b"llo")
        + wire.frame(BINARY, b"after")
    )

    assert wire.heard.events == [("text" if opcode == TEXT else "binary", b"hello"), ("binary", b"after")]


@SIDES
def test_a_ping_is_answered_with_its_data(masked: bool) -> None:
    wire = Wire(masked=masked)

    wire.feed(wire.frame(BINARY, b"x") + wire.frame(PING, b"are you there"))

    assert [(answer.opcode, answer.data) for answer in wire.answers()] == [(PONG, b"are you there")]
    assert wire.heard.events == [("binary", b"x")]


def test_a_character_may_be_cut_by_a_fragment() -> None:
    wire = Wire()
    text = "grüße 🚀".encode()
    for cut in range(len(text) + 1):
        wire.feed(wire.frame(TEXT, text[:cut], fin=False) + wire.frame(CONT, text[cut:]))

    assert wire.heard.events == [("text", text)] * (len(text) + 1)


def test_a_binary_message_of_the_largest_size_arrives() -> None:
    wire = Wire()
    whole = bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)
    half = len(whole) // 2

    wire.feed(wire.frame(BINARY, whole))
    wire.feed(wire.frame(BINARY, whole[:half], fin=False) + wire.frame(CONT, whole[half:]))

    assert wire.heard.events == [("binary", whole)] * 2


@pytest.mark.parametrize("n_bytes", [125, 126, 65_535, 65_536, 131_071, 131_072, 131_073, 262_144, 262_145])
def test_frames_around_every_limit_of_size_arrive(n_bytes: int) -> None:
    wire = Wire()
    data = bytes(itertools.islice(itertools.cycle(range(251)), n_bytes))

    wire.feed(wire.frame(BINARY, data) + wire.frame(BINARY, b"after"))

    assert wire.heard.events == [("binary", data), ("binary", b"after")]


def test_a_binary_message_lives_in_the_receive_buffer() -> None:
    wire = Wire()
    views: list[memoryview] = []
    wire.heard.on_binary = lambda data: views.append(data)  # type: ignore[method-assign]

    wire.feed(wire.frame(BINARY, b"first"))
    wire.feed(wire.frame(BINARY, b"later"))

    assert [bytes(view) for view in views] == [b"later", b"later"], "the first was copied, not viewed"


# --- what is refused ------------------------------------------------------------------------------


def broken(first_byte: int, second_byte: int = 0x80, rest: bytes = b"\0\0\0\0") -> bytes:
    return bytes([first_byte, second_byte]) + rest


FAULTS: dict[str, tuple[int, Any]] = {
    "an unmasked frame": (1002, lambda wire: fastpath.frame_header(3) + b"abc"),
    "an unmasked text": (1002, lambda wire: b"\x81\x01a"),
    "RSV1": (1002, lambda wire: broken(0xC2)),
    "RSV2": (1002, lambda wire: broken(0xA2)),
    "RSV3": (1002, lambda wire: broken(0x92)),
    "an opcode of the future": (1002, lambda wire: broken(0x83)),
    "a control opcode of the future": (1002, lambda wire: broken(0x8B)),
    "a ping in fragments": (1002, lambda wire: broken(0x09)),
    "a ping that is too long": (1002, lambda wire: broken(0x89, 0xFE, b"\0\x7e\0\0\0\0" + bytes(126))),
    "a continuation of nothing": (1002, lambda wire: wire.frame(CONT, b"x")),
    "text inside a message": (1002, lambda wire: wire.frame(BINARY, b"a", fin=False) + wire.frame(TEXT)),
    "binary inside a message": (1002, lambda wire: wire.frame(TEXT, b"a", fin=False) + wire.frame(BINARY)),
    "half a close code": (1002, lambda wire: wire.frame(CLOSE, b"\x03")),
    "a close code nobody may send": (1002, lambda wire: wire.frame(CLOSE, close_payload(1006))),
    "a close reason that is no text": (1007, lambda wire: wire.frame(CLOSE, b"\x03\xe8\xff")),
    "text that is not UTF-8": (1007, lambda wire: wire.frame(TEXT, b"\xff")),
    "text with a surrogate": (1007, lambda wire: wire.frame(TEXT, b"\xed\xa0\x80")),
    "text that ends within a character": (
        1007,
        lambda wire: wire.frame(TEXT, "ü".encode()[:1], fin=False) + wire.frame(CONT),
    ),
    "a message that is too large": (1009, lambda wire: wire.frame(BINARY, bytes(MAX_MESSAGE_BYTES + 1))),
    "fragments that are too large": (
        1009,
        lambda wire: (
            wire.frame(BINARY, bytes(MAX_MESSAGE_BYTES), fin=False) + wire.frame(CONT, b"x", fin=False)
        ),
    ),
    "a frame of 9 exabytes": (1009, lambda wire: broken(0x82, 0xFF, b"\x7f" + bytes(11))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_closes_the_connection_with_its_code(fault: str) -> None:
    wire = Wire()
    code, make = FAULTS[fault]

    wire.feed(wire.frame(BINARY, b"before") + make(wire) + wire.frame(BINARY, b"after"))

    assert wire.close_code() == code
    assert wire.heard.events == [("binary", b"before")]
    assert wire.transport.ended == "eof", "the peer has to be able to read why"
    assert not wire.endpoint.open


def test_a_frame_with_a_length_of_64_bits_is_refused() -> None:
    wire = Wire()

    wire.feed(broken(0x82, 0xFF, b"\xff" * 12))

    assert wire.close_code() in (1002, 1009)
    assert wire.heard.events == []


def test_a_masked_frame_from_a_server_is_refused() -> None:
    wire = Wire(masked=False)

    wire.feed(Wire(masked=True).frame(BINARY, b"abc"))

    assert wire.close_code() == 1002
    assert wire.heard.events == []


def test_text_of_the_largest_size_arrives_and_one_byte_more_is_told_and_refused() -> None:
    wire = Wire()
    told_while_open: list[bool] = []
    wire.heard.on_event = lambda event: told_while_open.append(wire.endpoint.open)

    wire.feed(wire.frame(TEXT, b"a" * 65_536))
    wire.feed(wire.frame(TEXT, b"a" * 40_000, fin=False) + wire.frame(CONT, b"a" * 25_537))

    assert wire.heard.events == [("text", b"a" * 65_536), ("text too big", 65_537)]
    assert told_while_open == [True, True], "the owner can still say something about it"
    assert wire.close_code() == 1009


# --- any cut --------------------------------------------------------------------------------------


def sequence(wire: Wire) -> tuple[bytes, list[Event]]:
    """Give one frame or more of each kind, and what is to be heard of them."""
    data = bytes(range(200))
    sent = (
        wire.frame(BINARY, b"first")
        + wire.frame(TEXT, "tëxt".encode())
        + wire.frame(PING, b"p")
        + wire.frame(BINARY, data)
        + wire.frame(TEXT, b"frag", fin=False)
        + wire.frame(PONG)
        + wire.frame(CONT, b"", fin=False)
        + wire.frame(CONT, b"ments")
        + wire.frame(BINARY, b"", fin=False)
        + wire.frame(CONT, b"x")
        + wire.frame(BINARY)
        + wire.frame(CLOSE, close_payload(1000, "bye"))
    )
    return sent, [
        ("binary", b"first"),
        ("text", "tëxt".encode()),
        ("binary", data),
        ("text", b"fragments"),
        ("binary", b"x"),
        ("binary", b""),
    ]


@SIDES
def test_frames_cut_at_any_byte_are_the_same_frames(masked: bool) -> None:
    length = len(sequence(Wire(masked=masked))[0])
    for cut in range(length + 1):
        wire = Wire(masked=masked)
        sent, expected = sequence(wire)
        wire.feed(sent[:cut])
        wire.feed(sent[cut:])
        wire.end()

        assert wire.heard.events == [*expected, ("closed", (1000, "bye"))], f"cut at {cut}"
        assert [answer.opcode for answer in wire.answers()] == [PONG, CLOSE], f"cut at {cut}"


@SIDES
def test_frames_that_come_byte_by_byte_are_the_same_frames(masked: bool) -> None:
    wire = Wire(masked=masked)
    sent, expected = sequence(wire)
    for byte in sent:
        wire.feed(bytes([byte]))

    assert wire.heard.events == expected


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY, PING]),
        st.one_of(
            st.binary(max_size=20),
            st.integers(0, 140_000).map(
                lambda n_bytes: bytes(itertools.islice(itertools.cycle(b"abc"), n_bytes))
            ),
        ),
        st.lists(st.integers(0, 140_000), max_size=3),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 400_000), max_size=8), masked=st.booleans())
def test_any_messages_in_any_fragments_and_pieces_arrive(
    messages: list[tuple[int, bytes, list[int]]], cuts: list[int], masked: bool
) -> None:
    wire = Wire(masked=masked)
    sent = b""
    expected: list[Event] = []
    for opcode, raw, fragments in messages:
        data = raw[: 125 if opcode == PING else 65_536]
        if opcode == PING:
            sent += wire.frame(PING, data)
            continue
        if opcode == TEXT:
            data = data.decode("latin-1").encode()[:65_536].decode(errors="ignore").encode()
        ends = sorted(min(end, len(data)) for end in fragments)
        for number, (start, end) in enumerate(itertools.pairwise([0, *ends, len(data)])):
            sent += wire.frame(CONT if number else opcode, data[start:end], fin=number == len(ends))
        expected.append(("text" if opcode == TEXT else "binary", data))
    pieces = itertools.pairwise([0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)])
    for start, end in pieces:
        wire.feed(sent[start:end])

    assert wire.heard.events == expected
    pongs = [answer.data for answer in wire.answers()]
    assert pongs == [raw[:125] for opcode, raw, _ in messages if opcode == PING]


@settings(deadline=None, max_examples=200)
@given(noise=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_noise_never_raises_and_never_gets_further_than_the_parser(noise: bytes, cuts: list[int]) -> None:
    whole, cut = Wire(), Wire()
    whole.feed(noise)
    for start, end in itertools.pairwise([0, *sorted(min(at, len(noise)) for at in cuts), len(noise)]):
        cut.feed(noise[start:end])

    assert cut.heard.events == whole.heard.events
    assert cut.close_code() == whole.close_code()
    assert cut.endpoint.open == whole.endpoint.open


# --- a link's way of taking frames in bulk ----------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from(["output", "other", "text"]), st.binary(max_size=300)), max_size=12
    ),
    cuts=st.lists(st.integers(0, 4000), max_size=6),
)
def test_frames_taken_in_bulk_and_others_keep_their_order(
    pieces: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    wire = Wire()
    ring = fastpath.ByteRing(1 << 16)
    receiver: fastpath.MuxReceiver[str] = fastpath.MuxReceiver(masked=True, max_payload_bytes=65_520)
    receiver.open(1, ring, "tag")
    wire.endpoint.receive_fast = receiver.receive
    heads: list[int] = []
    wire.heard.on_event = lambda event: heads.append(ring.head)
    masks = fastpath.MaskSource()
    sent, output, expected, expected_heads = b"", b"", [], []
    for kind, data in pieces:
        if kind == "output":
            sent += fastpath.pack_frame(1, 1, data, masks)
            output += data
            continue
        expected_heads.append(len(output))
        if kind == "text":
            sent += wire.frame(TEXT, data.hex().encode())
            expected.append(("text", data.hex().encode()))
        else:
            sent += fastpath.pack_frame(4, 1, data, masks)
            expected.append(("binary", fastpath.pack_frame(4, 1, data, None)[-len(data) - 8 :]))
    for start, end in itertools.pairwise([0, *sorted(min(at, len(sent)) for at in cuts), len(sent)]):
        wire.feed(sent[start:end])

    assert wire.heard.events == expected
    assert heads == expected_heads, "a message overtook output that was sent before it"
    assert bytes(ring.view(0, ring.head)) == output


# --- faults of the owner --------------------------------------------------------------------------


def failing(wire: Wire, error: Exception) -> None:
    def fail(event: Event) -> None:
        if event[0] in ("text", "binary"):
            raise error

    wire.heard.on_event = fail


@SIDES
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_an_owner_may_refuse_a_message(masked: bool, opcode: int) -> None:
    wire = Wire(masked=masked)
    failing(wire, ProtocolError("bad_message", "that was not allowed"))

    cut = wire.frame(BINARY, b"even more")
    wire.feed(wire.frame(opcode, b"bad") + wire.frame(opcode, b"more") + cut[:5])
    wire.feed(cut[5:] + wire.frame(CLOSE, close_payload(1000)))

    assert wire.close_code() == 1008
    assert wire.peer.close_rcvd is not None
    assert wire.peer.close_rcvd.reason == "that was not allowed"
    assert wire.heard.events == [("text" if opcode == TEXT else "binary", b"bad")], "and hears no more"
    wire.end()
    assert wire.heard.closed == [(1000, "")], "the closing handshake was completed"


def test_a_fault_of_the_owner_closes_this_connection_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    wire, other = Wire(), Wire()
    failing(wire, RuntimeError("a bug"))

    wire.feed(wire.frame(BINARY, b"x"))
    other.feed(other.frame(BINARY, b"y"))

    assert wire.close_code() == 1011
    assert "a bug" in caplog.text
    assert other.heard.events == [("binary", b"y")]
    assert other.endpoint.open


# --- the end --------------------------------------------------------------------------------------


@SIDES
def test_a_peer_that_closes_is_answered_and_its_reason_told(masked: bool) -> None:
    wire = Wire(masked=masked)

    wire.feed(wire.frame(CLOSE, close_payload(1001, "going home")) + wire.frame(BINARY, b"late"))
    assert wire.close_code() == 1001
    wire.end()

    assert wire.heard.events == [("closed", (1001, "going home"))]
    assert wire.lost == [wire.endpoint]
    assert wire.loop.waiting == 0


def test_a_connection_that_breaks_is_told_as_1006() -> None:
    wire = Wire()

    wire.feed(wire.frame(BINARY, b"half")[:-1])
    wire.endpoint.connection_lost(ConnectionResetError("reset by peer"))

    assert wire.heard.events == [("closed", (1006, "reset by peer"))]
    assert wire.loop.waiting == 0


@SIDES
def test_a_peer_that_just_goes_is_told_as_1006(masked: bool) -> None:
    wire = Wire(masked=masked)

    wire.end()

    assert [code for code, _ in wire.heard.closed] == [1006]


def test_the_end_is_told_once() -> None:
    wire = Wire()

    wire.endpoint.abort()
    wire.endpoint.connection_lost(None)
    wire.endpoint.abort()
    wire.endpoint.close()

    assert len(wire.heard.closed) == len(wire.lost) == 1


def test_whoever_keeps_a_list_hears_of_the_end_whatever_the_owner_does() -> None:
    wire = Wire()

    def fail(event: Event) -> None:
        raise RuntimeError("a bug")

    wire.heard.on_event = fail
    with pytest.raises(RuntimeError, match="a bug"):
        wire.endpoint.connection_lost(None)

    assert wire.lost == [wire.endpoint]


def test_close_is_said_once_and_ends_with_the_answer() -> None:
    wire = Wire()

    wire.endpoint.close(4000, "replaced")
    wire.endpoint.close(1008, "too late")
    wire.feed(wire.frame(CLOSE, close_payload(4000, "replaced")))

    assert wire.close_code() == 4000
    assert wire.transport.ended == "eof"
    wire.end()
    assert wire.heard.events == [("closed", (4000, "replaced"))]
    assert wire.loop.waiting == 0


@pytest.mark.parametrize("reason", ["x" * 500, "é" * 500, "🚀" * 500])
def test_a_long_reason_is_cut_to_what_a_close_frame_holds(reason: str) -> None:
    wire = Wire()

    wire.endpoint.close(1008, reason)

    assert wire.close_code() == 1008
    assert wire.peer.close_rcvd is not None
    assert len(wire.peer.close_rcvd.reason) >= 30
    assert reason.startswith(wire.peer.close_rcvd.reason)


def test_what_arrives_while_closing_is_not_heard() -> None:
    wire = Wire()

    wire.endpoint.close(1001, "going away")
    wire.feed(wire.frame(BINARY, b"late") + wire.frame(TEXT, b"later") + wire.frame(BINARY, b"a", fin=False))

    assert wire.heard.events == []


@SIDES
def test_a_peer_that_does_not_answer_close_is_cut_off_after_five_seconds(masked: bool) -> None:
    wire = Wire(masked=masked)

    wire.endpoint.close(1000, "bye")
    wire.loop.advance(CLOSE_S - 0.01)
    assert wire.transport.ended is None
    wire.loop.advance(0.02)

    assert wire.transport.ended == "aborted"
    assert [code for code, _ in wire.heard.closed] == [1006]


def test_a_peer_that_does_not_end_after_a_fault_is_cut_off_after_five_seconds() -> None:
    wire = Wire()

    wire.feed(wire.frame(TEXT, b"\xff"))
    wire.feed(bytes(100_000))
    wire.loop.advance(CLOSE_S + 0.01)

    assert wire.transport.ended == "aborted"
    assert len(wire.heard.closed) == 1


def test_a_paused_peer_is_read_again_when_the_connection_closes() -> None:
    wire = Wire()
    wire.endpoint.pause_reading()

    wire.endpoint.close(1000, "the session has ended")

    assert wire.transport.reading, "the answer to the close has to be read"


def test_nothing_is_sent_behind_a_close() -> None:
    wire = Wire()
    wire.endpoint.close()
    wire.answers()

    wire.endpoint.send_text(b"{}")
    wire.endpoint.send_frame(fastpath.frame_header(1) + b"x")
    wire.endpoint.send_packed(bytearray(b"\x82\x01x"), 0, 3)

    assert wire.answers() == []
    assert not wire.endpoint.open
    assert not wire.endpoint.writable, "who writes past the endpoint asks this"


def test_nothing_is_sent_behind_an_abort() -> None:
    wire = Wire()
    wire.transport.abort = lambda: None  # type: ignore[method-assign]  # a loop tells the protocol a little later
    wire.endpoint.abort()

    assert not wire.endpoint.open
    assert not wire.endpoint.writable


# --- reading and writing --------------------------------------------------------------------------


def test_reading_pauses_and_goes_on() -> None:
    wire = Wire()

    wire.endpoint.pause_reading()
    wire.endpoint.pause_reading()
    assert not wire.transport.reading
    wire.endpoint.resume_reading()
    assert wire.transport.reading


# --- turns ----------------------------------------------------------------------------------------


def arrive(wire: Wire, data: bytes) -> None:
    """Let the loop hand over what it has read, and do nothing else."""
    wire.endpoint.get_buffer(-1)[: len(data)] = data
    wire.endpoint.buffer_updated(len(data))


@pytest.mark.parametrize(
    ("opcode", "each_turn"), [(BINARY, TURN_COST), (TEXT, TURN_COST // SLOW_COST)], ids=["binary", "text"]
)
def test_a_peer_that_floods_leaves_everybody_else_a_turn(opcode: int, each_turn: int) -> None:
    wire = Wire()
    sent = [b"%d" % number for number in range(3 * each_turn + 5)]
    turns: list[int] = []

    arrive(wire, b"".join(wire.frame(opcode, each) for each in sent))
    while not wire.transport.reading:
        turns.append(len(wire.heard.messages))
        wire.loop.run_one()

    assert turns == [each_turn, 2 * each_turn, 3 * each_turn]
    assert [message for _, message in wire.heard.messages] == sent


@pytest.mark.parametrize(
    ("so_far_s", "reads"), [(0.0, FULL_READS), (2 * ITERATION_S, 1)], ids=["fast", "slow"]
)
def test_a_peer_that_fills_the_buffer_again_and_again_leaves_everybody_else_a_turn(
    monkeypatch: pytest.MonkeyPatch, so_far_s: float, reads: int
) -> None:
    wire = Wire()
    monkeypatch.setattr(endpoint_module, "monotonic", lambda: wire.loop.now_s + so_far_s)
    flood = wire.frame(BINARY, bytes(65_536)) * 12
    for _ in range(reads):
        assert wire.transport.reading
        room = len(wire.endpoint.get_buffer(-1))
        arrive(wire, flood[:room])
        flood = flood[room:]

    assert not wire.transport.reading
    wire.loop.advance(0)
    assert wire.transport.reading
    wire.feed(flood)
    assert len(wire.heard.messages) == 12


def test_a_frame_that_is_not_complete_at_the_end_of_a_turn_is_completed_later() -> None:
    wire = Wire()
    frames = wire.frame(BINARY, b"x") * TURN_COST + wire.frame(BINARY, b"the last one")

    arrive(wire, frames[:-5])
    wire.loop.run_one()
    assert wire.transport.reading
    arrive(wire, frames[-5:])

    assert wire.heard.messages[-1] == ("binary", b"the last one")
    assert len(wire.heard.messages) == TURN_COST + 1


def test_what_waits_for_its_turn_is_not_heard_once_the_connection_is_gone() -> None:
    wire = Wire()
    arrive(wire, wire.frame(BINARY, b"x") * (TURN_COST + 1))

    wire.endpoint.abort()
    wire.loop.advance(0)

    assert len(wire.heard.messages) == TURN_COST
    assert len(wire.heard.closed) == 1


def test_a_flooding_peer_can_still_be_paused_by_the_owner() -> None:
    wire = Wire()
    arrive(wire, wire.frame(BINARY, b"x") * (TURN_COST + 1))

    wire.endpoint.pause_reading()
    wire.loop.advance(0)
    assert not wire.transport.reading
    wire.endpoint.resume_reading()

    assert wire.transport.reading
    assert len(wire.heard.messages) == TURN_COST + 1


def test_a_peer_that_does_not_read_its_answers_is_not_asked_for_more() -> None:
    wire = Wire()
    wire.transport.queued_bytes = HIGH_WATER_BYTES + 1

    wire.endpoint.send_text(b"an answer")
    assert not wire.transport.reading
    wire.transport.queued_bytes = 0
    wire.endpoint.resume_writing()

    assert wire.transport.reading


def test_a_peer_that_reads_everything_at_last_stays_paused_for_its_owner() -> None:
    wire = Wire()
    wire.transport.queued_bytes = HIGH_WATER_BYTES + 1
    wire.endpoint.send_text(b"an answer")
    wire.endpoint.pause_reading()

    wire.endpoint.resume_writing()
    assert not wire.transport.reading
    wire.endpoint.resume_reading()

    assert wire.transport.reading


def test_a_peer_that_is_told_more_and_more_and_does_not_read_is_cut_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wire = Wire()
    wire.transport.queued_bytes = MAX_QUEUED_BYTES
    wire.endpoint.send_text(b"news")
    assert wire.transport.ended is None
    wire.transport.queued_bytes += 1
    wire.endpoint.send_text(b"more news")

    assert wire.transport.ended == "aborted"
    assert [code for code, _ in wire.heard.closed] == [1006]
    assert "unread" in caplog.text


def test_writable_means_that_nothing_of_ours_waits() -> None:
    wire = Wire()
    assert wire.endpoint.writable

    wire.endpoint.pause_writing()
    assert not wire.endpoint.writable
    wire.endpoint.resume_writing()

    assert wire.endpoint.writable
    assert wire.heard.events == [("writable", None)]


def test_frames_and_texts_leave_in_the_order_they_were_sent() -> None:
    wire = Wire()
    buffer = bytearray(b"--\x82\x03two--")

    wire.endpoint.send_text(b"one")
    wire.endpoint.send_packed(buffer, 2, 7)
    buffer[:] = bytes(len(buffer))
    wire.endpoint.send_frame(fastpath.frame_header(5) + b"three")

    assert [(answer.opcode, answer.data) for answer in wire.answers()] == [
        (TEXT, b"one"),
        (BINARY, b"two"),
        (BINARY, b"three"),
    ]


# --- silence --------------------------------------------------------------------------------------


@SIDES
def test_a_silent_peer_is_pinged_after_five_seconds_and_cut_off_after_ten(masked: bool) -> None:
    wire = Wire(masked=masked)

    wire.loop.advance(4.99)
    assert wire.answers() == []
    wire.loop.advance(0.02)
    assert [answer.opcode for answer in wire.answers()] == [PING]
    wire.loop.advance(4.9)
    assert wire.transport.ended is None
    wire.loop.advance(0.1)

    assert wire.transport.ended == "aborted"
    assert [code for code, _ in wire.heard.closed] == [1006]
    assert wire.loop.waiting == 0


def test_a_peer_that_answers_pings_is_kept() -> None:
    wire = Wire()
    pings = 0
    for _ in range(600):
        wire.loop.advance(0.1)
        for answer in wire.answers():
            assert answer.opcode == PING
            pings += 1
            wire.feed(wire.frame(PONG, bytes(answer.data)))

    assert wire.transport.ended is None
    assert 10 <= pings <= 12


def test_bytes_of_an_unfinished_frame_are_a_sign_of_life() -> None:
    wire = Wire()
    sent = wire.frame(BINARY, b"slowly")
    for byte in sent:
        wire.loop.advance(4.9)
        wire.feed(bytes([byte]))

    assert wire.heard.events == [("binary", b"slowly")]
    assert wire.answers() == []


def test_a_ping_waiting_behind_a_full_send_buffer_does_not_keep_a_dead_peer_alive() -> None:
    wire = Wire()
    wire.endpoint.pause_writing()

    wire.loop.advance(10.1)

    assert wire.transport.ended == "aborted"


class Machine:
    """What a peer runs on, as the kernel knows it: while there it acknowledges at once what it is sent."""

    def __init__(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = True
        self._wire = wire
        self._acked_s = wire.loop.now_s
        self._write = wire.transport.write
        monkeypatch.setattr(wire.transport, "write", self._take)
        monkeypatch.setattr(endpoint_module, "silence_s", lambda fd: wire.loop.now_s - self._acked_s)

    def _take(self, data: bytes) -> None:
        self._write(data)
        if self.there:
            self._acked_s = self._wire.loop.now_s


def test_a_peer_that_is_not_read_stays_as_long_as_its_machine_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = Wire()
    Machine(wire, monkeypatch)
    wire.endpoint.pause_reading()
    wire.loop.advance(3600)
    assert wire.transport.ended is None
    wire.endpoint.resume_reading()
    wire.loop.advance(9.9)
    assert wire.transport.ended is None
    wire.loop.advance(0.2)

    assert wire.transport.ended == "aborted"


def test_a_peer_that_is_not_read_and_whose_machine_is_gone_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = Wire()
    machine = Machine(wire, monkeypatch)
    wire.endpoint.pause_reading()
    wire.loop.advance(3600)
    machine.there = False
    wire.loop.advance(4.9)
    assert wire.transport.ended is None
    wire.loop.advance(5.2)

    assert wire.transport.ended == "aborted"


def test_a_peer_that_never_reads_what_it_is_sent_is_cut_off() -> None:
    wire = Wire()
    wire.transport.queued_bytes = HIGH_WATER_BYTES + 1
    wire.endpoint.send_text(b"an answer")
    wire.endpoint.pause_reading()

    wire.loop.advance(10.1)

    assert wire.transport.ended == "aborted"


def test_a_peer_that_reads_slowly_what_it_is_sent_is_kept() -> None:
    wire = Wire()
    wire.transport.queued_bytes = HIGH_WATER_BYTES + 1
    wire.endpoint.send_text(b"an answer")

    for _ in range(100):
        wire.loop.advance(4)
        wire.transport.queued_bytes -= 1

    assert wire.transport.ended is None


# --- what comes with the handshake ----------------------------------------------------------------


def test_bytes_that_came_with_the_handshake_are_the_first_that_are_heard() -> None:
    wire = Wire()
    wire.transport.reading = False  # as whoever hands a transport over leaves it
    sent = wire.frame(TEXT, b"first") + b"".join(wire.frame(BINARY, bytes(100_000)) for _ in range(9))

    cut = wire.frame(BINARY, b"cut")
    wire.endpoint.start(sent + cut[:4])
    wire.feed(cut[4:])

    assert [kind for kind, _ in wire.heard.events] == ["text", *["binary"] * 10]
    assert wire.heard.events[-1] == ("binary", b"cut")
    assert wire.transport.reading


def test_an_owner_that_pauses_on_the_first_message_stays_paused() -> None:
    wire = Wire()
    wire.transport.reading = False
    wire.heard.on_event = lambda event: wire.endpoint.pause_reading()

    wire.endpoint.start(wire.frame(TEXT, b"first"))

    assert not wire.transport.reading
    wire.endpoint.resume_reading()
    assert wire.transport.reading


def test_of_many_who_leave_at_once_twenty_go_in_each_turn() -> None:
    loop, departures = FakeLoop(), Departures()
    transports = [Mock() for _ in range(2 * DEPARTURES_A_TURN + 1)]
    with running(loop):
        for transport in transports:
            departures.add(transport)
        gone = [0]
        while loop.waiting:
            loop.run_one()
            gone.append(sum(transport.close.called for transport in transports))
        assert gone == [0, DEPARTURES_A_TURN, 2 * DEPARTURES_A_TURN, len(transports)]
        departures.add(late := Mock())
        loop.run_one()

    late.close.assert_called_once_with()
    assert all(transport.close.call_count == 1 for transport in transports)
