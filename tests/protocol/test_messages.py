"""Control messages: what is said is understood, and whatever else arrives is the peer's fault and no more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentrelay.errors import ProtocolError
from agentrelay.protocol import messages as m

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "viewer_messages.json").read_text()
)
ERROR_CODES = {"bad_message", "too_large"}

Decode = Callable[[bytes], m.Message | None]
DECODERS: dict[str, Decode] = {
    "viewer": m.decode_from_viewer,
    "runner": m.decode_from_runner,
    "hq": m.decode_from_hq,
    "to viewer": m.decode_to_viewer,
}


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


# --- what is said ---------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)
ENV_NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0="), min_size=1, max_size=20
)
VIEWERS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
IDS = st.text(st.sampled_from("0123456789abcdefXYZ_-"), min_size=1, max_size=64)
SIZES = st.integers(1, 1000)
OFFSETS = st.integers(0, 2**62)
STREAMS = st.integers(0, 2**32 - 1)
NUMBERS = st.integers(0, 2**31 - 1)
SIGNALS = st.from_regex(r"\A[A-Za-z0-9+]{1,16}\Z")
COMMANDS = st.lists(TEXT, min_size=1, max_size=4)
REPLAYS = st.builds(m.Replay, kind=st.sampled_from(["log", "snapshot"]), bytes=OFFSETS)
STREAM_STARTS: dict[str, Any] = {
    "command": st.none() | COMMANDS,
    "preset": st.none() | NAMES,
    "cwd": st.none() | TEXT,
    "env": st.dictionaries(ENV_NAMES, TEXT, max_size=4),
    "rows": SIZES,
    "cols": SIZES,
}
ATTACHED: dict[str, Any] = {
    "session_id": IDS,
    "epoch": IDS,
    "offset": OFFSETS,
    "rows": SIZES,
    "cols": SIZES,
    "control": st.booleans(),
    "viewer": TEXT,
    "input": st.none() | OFFSETS,
    "recording": st.booleans(),
    "replay": REPLAYS,
}


@st.composite
def held(draw: st.DrawFn, session_id: str = "") -> m.Held:
    base, head = sorted((draw(OFFSETS), draw(OFFSETS)))
    return m.Held(
        session_id=session_id or draw(IDS),
        epoch=draw(IDS),
        pid=draw(NUMBERS),
        base=base,
        head=head,
        input=draw(OFFSETS),
        rows=draw(SIZES),
        cols=draw(SIZES),
        command=draw(st.lists(TEXT, max_size=3)),
        cwd=draw(TEXT),
    )


ERRORS = st.builds(m.Error, code=TEXT, message=TEXT)
SAID: dict[str, list[st.SearchStrategy[Any]]] = {
    "viewer": [
        st.builds(
            m.StartSession,
            **STREAM_STARTS,
            name=st.none() | NAMES,
            session_id=st.none() | TEXT,
            recording=st.booleans(),
            viewer=VIEWERS,
        ),
        st.builds(
            m.Attach,
            from_=st.none() | OFFSETS,
            epoch=st.none() | TEXT,
            rows=st.none() | SIZES,
            cols=st.none() | SIZES,
            viewer=VIEWERS,
        ),
        st.builds(m.Resize, rows=SIZES, cols=SIZES),
        st.builds(m.Ack, offset=OFFSETS),
        st.just(m.TakeControl()),
        st.builds(m.Signal, name=SIGNALS),
        st.just(m.Ping()),
    ],
    "runner": [
        st.builds(
            m.Register,
            protocol=st.just(1),
            runner_id=TEXT,
            version=TEXT,
            hostname=TEXT,
            os=TEXT,
            arch=TEXT,
            presets=st.lists(st.builds(m.Preset, name=TEXT, label=TEXT, path=TEXT, note=TEXT), max_size=2),
            sessions=st.lists(held(), max_size=3, unique_by=lambda each: each.session_id),
        ),
        st.builds(
            m.Started,
            session_id=IDS,
            stream=STREAMS,
            epoch=IDS,
            pid=NUMBERS,
            rows=SIZES,
            cols=SIZES,
            command=st.lists(TEXT, max_size=3),
            cwd=TEXT,
        ),
        st.builds(m.StartNotDone, session_id=IDS, stream=STREAMS, code=TEXT, message=TEXT),
        st.builds(m.LinkGap, stream=STREAMS, from_=OFFSETS, to=OFFSETS),
        st.builds(
            m.Exited,
            stream=STREAMS,
            offset=OFFSETS,
            exit_code=st.none() | NUMBERS,
            signal=st.none() | NUMBERS,
        ),
        ERRORS,
    ],
    "hq": [
        st.builds(
            m.Registered,
            runner_id=TEXT,
            hq_version=TEXT,
            sessions=st.lists(
                st.builds(
                    m.Resumed,
                    session_id=IDS,
                    stream=STREAMS,
                    from_=OFFSETS,
                    acked=OFFSETS,
                    limit=OFFSETS,
                    input=OFFSETS,
                ),
                max_size=3,
            ),
        ),
        st.builds(m.Start, session_id=IDS, stream=STREAMS, limit=OFFSETS, **STREAM_STARTS),
        st.builds(m.StreamResize, stream=STREAMS, rows=SIZES, cols=SIZES),
        st.builds(m.StreamSignal, stream=STREAMS, name=SIGNALS),
        st.builds(m.Stop, stream=STREAMS),
        st.builds(m.Forget, session_id=IDS),
        ERRORS,
    ],
    "to viewer": [
        st.builds(
            m.SessionStarted,
            session_id=IDS,
            runner_id=TEXT,
            epoch=IDS,
            pid=NUMBERS,
            rows=SIZES,
            cols=SIZES,
            viewer=TEXT,
            ref=st.just(msgspec.UNSET) | TEXT,
        ),
        st.builds(m.Attached, **ATTACHED),
        st.builds(m.Resync, **ATTACHED),
        st.builds(m.Resized, rows=SIZES, cols=SIZES),
        st.builds(m.Control, viewer=st.none() | TEXT, you=st.booleans()),
        st.builds(m.ViewerGap, from_=OFFSETS, to=OFFSETS),
        st.builds(m.InputAck, offset=OFFSETS),
        st.just(m.Pong()),
        st.builds(
            m.SessionEnded,
            session_id=IDS,
            exit_code=st.none() | NUMBERS,
            signal=st.none() | NUMBERS,
        ),
        ERRORS,
    ],
}


@pytest.mark.parametrize("side", SAID)
@settings(deadline=None)
@given(data=st.data())
def test_every_message_is_understood_as_it_was_meant(side: str, data: st.DataObject) -> None:
    message = data.draw(st.one_of(SAID[side]))
    text = m.encode(message)

    assert DECODERS[side](text) == message
    assert json.loads(text)["type"] == message.type


@pytest.mark.parametrize(
    ("union", "side"),
    [
        (m.ViewerMessage, "viewer"),
        (m.RunnerMessage, "runner"),
        (m.HqMessage, "hq"),
        (m.ViewerEvent, "to viewer"),
    ],
    ids=["viewer", "runner", "hq", "to viewer"],
)
def test_no_message_is_missing_above(union: Any, side: str) -> None:
    assert len(SAID[side]) == len(union.__args__)


def test_absent_is_not_null_on_the_wire() -> None:
    started = m.SessionStarted(session_id="s", runner_id="r", epoch="e", pid=1, rows=24, cols=80, viewer="v1")

    assert "ref" not in json.loads(m.encode(started))["payload"]


# --- the vectors that bind Python and TypeScript ----------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["to_hq"], ids=named)
def test_a_viewer_is_understood_as_the_vector_says(vector: dict[str, Any]) -> None:
    message = m.decode_from_viewer(vector["text"].encode())

    assert message is not None
    assert message.type == vector["message"]["type"]
    said = msgspec.to_builtins(message)
    assert {key: said[key] for key in vector["message"]["payload"]} == vector["message"]["payload"]


@pytest.mark.parametrize("vector", VECTORS["to_viewer"], ids=named)
def test_a_viewer_in_python_understands_hq_as_the_vector_says(vector: dict[str, Any]) -> None:
    message = m.decode_to_viewer(vector["text"].encode())

    assert message is not None
    assert {"type": message.type, "payload": msgspec.to_builtins(message)} == vector["message"]


@pytest.mark.parametrize("text", VECTORS["unknown"])
@pytest.mark.parametrize("side", DECODERS)
def test_a_message_of_the_future_is_ignored(side: str, text: str) -> None:
    assert DECODERS[side](text.encode()) is None


@pytest.mark.parametrize("vector", VECTORS["malformed_to_hq"], ids=named)
def test_a_malformed_message_of_a_viewer_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as refused:
        m.decode_from_viewer(vector["text"].encode())

    assert refused.value.code == vector["code"]


# --- what is refused ------------------------------------------------------------------------------

HELD = {
    "session_id": "0" * 32,
    "epoch": "e1",
    "pid": 7,
    "base": 0,
    "head": 9,
    "input": 0,
    "rows": 24,
    "cols": 80,
    "command": ["sh"],
    "cwd": "/",
}
REGISTER = {
    "protocol": 1,
    "runner_id": "r",
    "version": "1",
    "hostname": "h",
    "os": "linux",
    "arch": "x86_64",
}
STARTED = {
    "session_id": "0" * 32,
    "stream": 1,
    "epoch": "e1",
    "pid": 7,
    "rows": 24,
    "cols": 80,
    "command": [],
    "cwd": "/",
}
EXITED = {"stream": 1, "offset": 0, "exit_code": 0, "signal": None}


def registering(**changes: object) -> dict[str, object]:
    return REGISTER | {"sessions": [HELD | changes]}


REFUSED: list[tuple[str, str, object]] = [
    ("viewer", "start_session", {"command": []}),
    ("viewer", "start_session", {"command": ["a\0b"]}),
    ("viewer", "start_session", {"command": [1]}),
    ("viewer", "start_session", {"preset": ""}),
    ("viewer", "start_session", {"name": "two\nlines"}),
    ("viewer", "start_session", {"name": "n" * 201}),
    ("viewer", "start_session", {"cwd": "/a\0"}),
    ("viewer", "start_session", {"env": {"A=B": "1"}}),
    ("viewer", "start_session", {"env": {"": "1"}}),
    ("viewer", "start_session", {"env": {"A": "1\0"}}),
    ("viewer", "start_session", {"env": {"A": None}}),
    ("viewer", "start_session", {"env": [["A", "1"]]}),
    ("viewer", "start_session", {"rows": 0}),
    ("viewer", "start_session", {"rows": None}),
    ("viewer", "start_session", {"session_id": 1}),
    ("viewer", "start_session", {"session_id": "x" * 1001}),
    ("viewer", "start_session", {"recording": "yes"}),
    ("viewer", "attach", {"from": -1}),
    ("viewer", "attach", {"from": 2**63}),
    ("viewer", "attach", {"from": 10**30}),
    ("viewer", "attach", {"from": 1.0}),
    ("viewer", "attach", {"from": True}),
    ("viewer", "attach", {"viewer": ""}),
    ("viewer", "attach", {"viewer": "v" * 65}),
    ("viewer", "attach", {"rows": 1001, "cols": 80}),
    ("viewer", "resize", {"rows": 24}),
    ("viewer", "resize", {"rows": "24", "cols": 80}),
    ("viewer", "ack", {}),
    ("viewer", "ack", {"offset": None}),
    ("viewer", "signal", {"name": ""}),
    ("viewer", "signal", {"name": "INT\n"}),
    ("viewer", "signal", {"name": "A" * 17}),
    ("viewer", "take_control", None),
    ("viewer", "take_control", "now"),
    ("runner", "register", {}),
    ("runner", "register", REGISTER | {"protocol": "1"}),
    ("runner", "register", REGISTER | {"presets": [{"name": "x"}]}),
    ("runner", "register", registering(base=10)),
    ("runner", "register", registering(head=2**63 - 1)),
    ("runner", "register", registering(rows=0)),
    ("runner", "register", registering(pid=2**31)),
    ("runner", "register", registering(epoch="")),
    ("runner", "register", registering(epoch="e" * 65)),
    ("runner", "register", registering(epoch="e\0")),
    ("runner", "register", registering(session_id="")),
    ("runner", "register", registering(session_id="../../etc")),
    ("runner", "register", registering(session_id="a/b")),
    ("runner", "register", registering(session_id="..")),
    ("runner", "register", registering(session_id="s" * 65)),
    ("runner", "register", REGISTER | {"sessions": [HELD, HELD]}),
    ("runner", "started", STARTED | {"epoch": ""}),
    ("runner", "started", STARTED | {"epoch": "é" * 40}),
    ("runner", "started", STARTED | {"stream": 2**32}),
    ("runner", "started", STARTED | {"pid": -1}),
    ("runner", "started", STARTED | {"pid": 2**64}),
    ("runner", "exited", EXITED | {"exit_code": 2**63}),
    ("runner", "exited", EXITED | {"signal": -1}),
    ("runner", "exited", {"stream": 1, "offset": 0}),
    ("runner", "gap", {"stream": 1, "from": 0}),
    ("runner", "gap", {"stream": -1, "from": 0, "to": 1}),
    ("hq", "start", {"session_id": "s", "stream": 1}),
    ("hq", "start", {"session_id": "s", "stream": 1, "limit": 0, "env": {"A": 1}}),
    ("hq", "resize", {"stream": 1, "rows": 0, "cols": 1}),
    ("hq", "signal", {"stream": 1, "name": "a b"}),
    ("hq", "stop", {}),
    ("hq", "forget", {"session_id": None}),
    ("hq", "registered", {"runner_id": "r", "hq_version": "1", "sessions": [{}]}),
]


@pytest.mark.parametrize(("side", "kind", "payload"), REFUSED)
def test_a_wrong_payload_is_refused_with_a_code_and_a_sentence(side: str, kind: str, payload: object) -> None:
    with pytest.raises(ProtocolError) as refused:
        DECODERS[side](json.dumps({"type": kind, "payload": payload}).encode())

    assert refused.value.code == "bad_message"
    assert str(refused.value).startswith(f"payload of {kind}: ")
    assert len(str(refused.value)) > len(f"payload of {kind}: ")


@pytest.mark.parametrize("payload", [registering(), STARTED, EXITED], ids=["register", "started", "exited"])
def test_the_payloads_above_are_refused_for_their_change_alone(payload: dict[str, object]) -> None:
    kind = "register" if "sessions" in payload else "started" if "epoch" in payload else "exited"

    assert m.decode_from_runner(json.dumps({"type": kind, "payload": payload}).encode()) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b'"ack"',
        b"1",
        b'{"payload":{}}',
        b'{"type":null,"payload":{}}',
        b'{"type":["ack"],"payload":{}}',
        b'{"type":"take_control"}',
        b'{"type":"ack","payload":{"offset":NaN}}',
        b'{"type":"ack","payload":{"offset":1e400}}',
        b'{"type":"ack","payload":{"offset":' + b"9" * 5000 + b"}}",
        b'{"type":"start_session","payload":{"name":"\\ud800"}}',
        b'{"type":"start_session","payload":{"name":"\xed\xa0\x80"}}',
        b'{"type":"start_session","payload":{"name":"\xff"}}',
        b'\xef\xbb\xbf{"type":"ack","payload":{"offset":1}}',
        b"[" * 65_536,
        b'{"a":' * 13_000,
        b'{"type":"ack","payload":{"offset":1}}x',
        b'{"type":"ack","payload":{"offset":1}}\0',
    ],
)
def test_what_is_no_message_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        m.decode_from_viewer(text)

    assert refused.value.code == "bad_message"
    assert 20 < len(str(refused.value)) < 300


def test_of_a_field_that_is_said_twice_the_last_counts() -> None:
    text = b'{"type":"ack","payload":{"offset":1,"offset":2},"payload":{"offset":3,"offset":4}}'

    assert m.decode_from_viewer(text) == m.Ack(offset=4)


def test_unknown_fields_are_ignored() -> None:
    text = b'{"type":"ack","payload":{"offset":1,"more":{"a":[null]}},"hop":7}'

    assert m.decode_from_viewer(text) == m.Ack(offset=1)


def test_text_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    frame = b'{"type":"start_session","payload":{"cwd":"%s"}}'
    largest = frame % (b"c" * (m.MAX_TEXT_BYTES - len(frame) + 2))

    assert len(largest) == 65_536
    assert isinstance(m.decode_from_viewer(largest), m.StartSession)
    with pytest.raises(ProtocolError, match="at most 65536 bytes, not 65537") as refused:
        m.decode_from_viewer(largest + b" ")
    assert refused.value.code == "too_large"


# --- arbitrary input ------------------------------------------------------------------------------

KINDS = [
    "start_session",
    "attach",
    "resize",
    "ack",
    "signal",
    "register",
    "started",
    "exited",
    "gap",
    "registered",
    "start",
    "resized",
    "attached",
]
FIELDS = [
    "rows",
    "cols",
    "offset",
    "from",
    "command",
    "env",
    "name",
    "sessions",
    "stream",
    "session_id",
    "protocol",
    "pid",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
ENVELOPES = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | JSON},
    optional={"payload": st.dictionaries(st.sampled_from(FIELDS), JSON) | JSON},
)


def decode_everywhere(text: bytes) -> None:
    """Whatever it is: a message, None, or the peer's fault."""
    for decode in DECODERS.values():
        fault: ProtocolError | None = None
        message: m.Message | None = None
        try:
            message = decode(text)
        except ProtocolError as error:
            fault = error
        assert fault is None or (fault.code in ERROR_CODES and str(fault))
        assert message is None or isinstance(message, m.Message)


@settings(deadline=None, max_examples=300)
@given(st.one_of(ENVELOPES, JSON))
def test_arbitrary_json_raises_nothing_but_a_protocol_error(value: object) -> None:
    decode_everywhere(json.dumps(value).encode())


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
@example(b"\xff\xfe{\x00")
@example(b'{"type":"ack","payload":' + b"[" * 60_000)
def test_arbitrary_bytes_raise_nothing_but_a_protocol_error(text: bytes) -> None:
    decode_everywhere(text)


@settings(deadline=None, max_examples=200)
@given(
    at=st.integers(0, 200),
    byte=st.integers(0, 255),
    message=st.one_of(*SAID["viewer"], *SAID["runner"], *SAID["hq"]),
)
def test_a_damaged_message_raises_nothing_but_a_protocol_error(
    at: int, byte: int, message: m.Message
) -> None:
    text = bytearray(m.encode(message))
    text[at % len(text)] = byte
    decode_everywhere(bytes(text))


@given(st.one_of(SAID["viewer"]))
def test_a_view_of_the_receive_buffer_will_do(message: m.Message) -> None:
    text = m.encode(message)
    assert m.decode_from_viewer(memoryview(b"--" + text)[2:]) == message


@pytest.mark.parametrize("kind", ["started", "register"])
def test_a_runner_cannot_have_hq_keep_a_command_of_any_length(kind: str) -> None:
    facts: dict[str, Any] = {"session_id": "s", "epoch": "e", "pid": 1, "rows": 1, "cols": 1, "cwd": "/"}
    held = {"base": 0, "head": 0, "input": 0}
    about = {"protocol": 1, "runner_id": "r", "version": "1", "hostname": "h", "os": "o", "arch": "a"}

    def message(command: list[str]) -> bytes:
        if kind == "started":
            payload = {**facts, "stream": 1, "command": command}
        else:
            payload = {**about, "sessions": [{**facts, **held, "command": command}]}
        return json.dumps({"type": kind, "payload": payload}).encode()

    assert m.decode_from_runner(message(["x" * 2000, "y" * 2000]))
    for command in (["x" * 5000], ["x" * 2500] * 2, [""] * 5000):
        with pytest.raises(ProtocolError):
            m.decode_from_runner(message(command))
