import base64
import json
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentrelay.errors import (
    LimitReached,
    LogError,
    NotInControl,
    ProtocolError,
    RequestError,
    RunnerAway,
    SessionOver,
    StartFailed,
    StoreFailed,
)
from agentrelay.hq.http.gate import MAX_BODY_BYTES
from agentrelay.hq.http.sessions import MAX_OUTPUT_BYTES, MAX_START_BYTES
from agentrelay.protocol.messages import Start, encode
from tests.hq.http.conftest import SESSION_ID, Asgi, FakeHq, FakeSession, make_session, problem_of

PATH = f"/api/sessions/{SESSION_ID}"
ARBITRARY = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


async def test_sessions_are_listed_as_they_describe_themselves(admin: httpx.AsyncClient, hq: FakeHq) -> None:
    hq.registry.known_sessions["b"] = make_session("b", state="ended", exit_code=3, name="zwei ✓")
    answer = await admin.get("/api/sessions")
    assert answer.headers["content-type"] == "application/json"
    first, second = answer.json()["sessions"]
    assert first["session_id"] == SESSION_ID
    assert (second["name"], second["exit_code"], second["signal"]) == ("zwei ✓", 3, None)


async def test_a_session_is_given_alone(admin: httpx.AsyncClient) -> None:
    answer = (await admin.get(PATH)).json()
    assert answer == (await admin.get("/api/sessions")).json()["sessions"][0]
    assert answer["runner_id"] == "box"


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/input"),
        ("POST", "/signal"),
        ("GET", "/screen"),
        ("GET", "/output"),
    ],
)
@pytest.mark.parametrize("session_id", ["unknown", "%00", "%ff", "a" * 5000, "%F0%9F%92%A9"])
async def test_an_unknown_session_is_said_to_be_unknown(
    admin: httpx.AsyncClient, method: str, rest: str, session_id: str
) -> None:
    answer = await admin.request(method, f"/api/sessions/{session_id}{rest}", content=b"{}")
    assert answer.status_code == 404
    assert problem_of(answer)["code"] == "unknown_session"


# --- starting ----------------------------------------------------------------------------------------------


async def test_starting_gives_the_session_and_where_it_is(admin: httpx.AsyncClient, hq: FakeHq) -> None:
    body = {
        "runner_id": "box",
        "command": ["sh", "-c", "echo ✓"],
        "cwd": "/tmp",
        "env": {"A": "b"},
        "rows": 50,
        "cols": 100,
        "name": "n",
        "recording": False,
        "something": "newer",
    }
    answer = await admin.post("/api/sessions", json=body)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/sessions/" + answer.json()["session_id"]
    [(runner_id, wish)] = hq.registry.started
    assert runner_id == "box"
    assert (wish.command, wish.cwd, wish.env) == (["sh", "-c", "echo ✓"], "/tmp", {"A": "b"})
    assert (wish.rows, wish.cols, wish.name, wish.recording) == (50, 100, "n", False)


async def test_starting_needs_a_runner_only(admin: httpx.AsyncClient, hq: FakeHq) -> None:
    assert (await admin.post("/api/sessions", json={"runner_id": "box"})).status_code == 201
    [(_, wish)] = hq.registry.started
    assert (wish.command, wish.preset, wish.rows, wish.cols) == (None, None, 24, 80)


async def test_starting_on_an_unknown_runner_is_a_404(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/api/sessions", json={"runner_id": "nobody"})
    assert (answer.status_code, problem_of(answer)["code"]) == (404, "unknown_runner")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RunnerAway("runner box is not connected"), 409),
        (StartFailed("command_not_found", "there is no program x"), 422),
        (StartFailed("cwd_not_found", "there is no directory x"), 422),
        (StartFailed("unknown_preset", "there is no preset x"), 422),
        (StartFailed("start_failed", "it did not answer"), 422),
        (LimitReached("too many sessions"), 429),
    ],
)
async def test_a_start_that_fails_says_why(
    admin: httpx.AsyncClient, hq: FakeHq, error: RequestError, status: int
) -> None:
    hq.registry.error = error
    answer = await admin.post("/api/sessions", json={"runner_id": "box"})
    assert answer.status_code == status
    document = problem_of(answer)
    assert (document["code"], document["detail"]) == (error.code, str(error))


BAD_STARTS: list[dict[str, Any]] = [
    {},
    {"runner_id": None},
    {"runner_id": 5},
    {"runner_id": "box", "command": []},
    {"runner_id": "box", "command": "ls"},
    {"runner_id": "box", "command": [1]},
    {"runner_id": "box", "command": ["nul\0"]},
    {"runner_id": "box", "cwd": "nul\0"},
    {"runner_id": "box", "cwd": 1},
    {"runner_id": "box", "env": {"A=B": "c"}},
    {"runner_id": "box", "env": {"": "c"}},
    {"runner_id": "box", "env": {"A": 1}},
    {"runner_id": "box", "env": {"A": "nul\0"}},
    {"runner_id": "box", "env": []},
    {"runner_id": "box", "rows": 0},
    {"runner_id": "box", "rows": 1001},
    {"runner_id": "box", "rows": -1},
    {"runner_id": "box", "rows": 2**63},
    {"runner_id": "box", "rows": 10**30},
    {"runner_id": "box", "rows": 1.5},
    {"runner_id": "box", "rows": True},
    {"runner_id": "box", "rows": "24"},
    {"runner_id": "box", "cols": None},
    {"runner_id": "box", "name": ""},
    {"runner_id": "box", "name": "x" * 201},
    {"runner_id": "box", "name": "bell\a"},
    {"runner_id": "box", "recording": 1},
]


@pytest.mark.parametrize("body", BAD_STARTS)
async def test_a_wrong_field_is_named(admin: httpx.AsyncClient, hq: FakeHq, body: dict[str, Any]) -> None:
    answer = await admin.post("/api/sessions", json=body)
    assert answer.status_code == 422
    document = problem_of(answer)
    assert document["code"] == "bad_parameter"
    field = [name for name in body if name != "runner_id"] or ["runner_id"]
    assert field[0] in document["detail"]
    assert hq.registry.started == []


NOT_JSON = [
    b"",
    b"{",
    b"\xff",
    b'{"runner_id": "\xff"}',
    b'{"runner_id": "\\ud800"}',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b"\xef\xbb\xbf{}",
    b"NaN",
    b'{"runner_id": "box", "rows": 1%s}' % (b"0" * 400),
]


@pytest.mark.parametrize("body", NOT_JSON)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/sessions"), ("PATCH", PATH), ("POST", PATH + "/input"), ("POST", PATH + "/signal")],
)
async def test_a_body_that_is_no_json_is_a_400(
    admin: httpx.AsyncClient, method: str, path: str, body: bytes
) -> None:
    answer = await admin.request(method, path, content=body)
    assert (answer.status_code, problem_of(answer)["code"]) == (400, "bad_json")


@pytest.mark.parametrize("body", [b"null", b"5", b'"x"', b"[]", b"[{}]", b"1e300"])
async def test_json_that_is_no_object_is_a_422(admin: httpx.AsyncClient, body: bytes) -> None:
    for method, path in (("POST", "/api/sessions"), ("PATCH", PATH), ("POST", PATH + "/input")):
        assert (await admin.request(method, path, content=body)).status_code == 422


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain", "x"])
async def test_the_content_type_of_json_does_not_matter(
    admin: httpx.AsyncClient, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await admin.post("/api/sessions", content=b'{"runner_id":"box"}', headers=headers)
    assert answer.status_code == 201


async def test_the_largest_start_fits_into_a_message_of_the_link(
    admin: httpx.AsyncClient, hq: FakeHq
) -> None:
    frame = len(json.dumps({"runner_id": "box", "command": [""]}))
    for filler in ("x", '"', "\x01"):
        escaped = len(json.dumps(filler)) - 2
        command = [filler * ((MAX_START_BYTES - frame) // escaped)]
        answer = await admin.post(
            "/api/sessions", content=json.dumps({"runner_id": "box", "command": command}).encode()
        )
        assert answer.status_code == 201
        _, wish = hq.registry.started[-1]
        start = Start(session_id="0" * 32, stream=2**32 - 1, limit=2**63 - 1, command=wish.command)
        assert len(encode(start)) <= 65_536
    answer = await admin.post("/api/sessions", json={"runner_id": "box", "command": ["x" * MAX_START_BYTES]})
    assert (answer.status_code, problem_of(answer)["code"]) == (413, "too_large")


# --- changing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        ({}, []),
        ({"name": None, "rows": None}, []),
        ({"name": "neu ✓"}, [("rename", "neu ✓")]),
        ({"rows": 30}, [("resize", 30, 80)]),
        ({"cols": 30}, [("resize", 24, 30)]),
        ({"rows": 5, "cols": 6, "name": "x"}, [("resize", 5, 6), ("rename", "x")]),
    ],
)
async def test_what_is_given_is_changed(
    admin: httpx.AsyncClient, session: FakeSession, change: dict[str, Any], calls: list[Any]
) -> None:
    answer = await admin.patch(PATH, json=change)
    assert answer.status_code == 200
    assert session.calls == calls
    for name, value in change.items():
        assert answer.json()[name] == (value if value is not None else getattr(make_session().info, name))


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"name": 1}, {"name": "\n"}, {"rows": 0}, {"cols": 1001}, {"rows": "5"}, {"cols": 2**64}],
)
async def test_a_wrong_change_changes_nothing(
    admin: httpx.AsyncClient, session: FakeSession, change: dict[str, Any]
) -> None:
    answer = await admin.patch(PATH, json={"name": "ok", "rows": 7} | change)
    assert answer.status_code == 422
    assert session.calls == []


async def test_a_size_that_cannot_be_set_leaves_the_name_as_it_was(
    admin: httpx.AsyncClient, session: FakeSession
) -> None:
    session.error = SessionOver("the program has ended")
    answer = await admin.patch(PATH, json={"name": "x", "rows": 5})
    assert (answer.status_code, problem_of(answer)["code"]) == (409, "session_over")
    assert session.info.name == "bash"


# --- ending ------------------------------------------------------------------------------------------------


async def test_deleting_a_live_session_tells_it_to_stop(admin: httpx.AsyncClient) -> None:
    answer = await admin.delete(PATH)
    assert (answer.status_code, answer.json()) == (202, {"status": "stopping"})
    assert (await admin.get(PATH)).status_code == 200


async def test_deleting_an_ended_session_removes_it(
    admin: httpx.AsyncClient, hq: FakeHq, ended: FakeSession
) -> None:
    path = f"/api/sessions/{ended.info.session_id}"
    hq.registry.known_sessions[ended.info.session_id] = ended
    answer = await admin.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await admin.delete(path)).status_code == 404


# --- input and signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "typed"),
    [
        ({"data": "ls ✓\r"}, "ls ✓\r".encode()),
        ({"data": "\x00\x03"}, b"\x00\x03"),
        ({"data_base64": base64.b64encode(bytes(range(256))).decode()}, bytes(range(256))),
    ],
)
async def test_input_is_typed(
    admin: httpx.AsyncClient, session: FakeSession, body: dict[str, str], typed: bytes
) -> None:
    answer = await admin.post(PATH + "/input", json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert session.calls == [("input", typed)]


@pytest.mark.parametrize("content_type", ["application/octet-stream", "Application/Octet-Stream; x=y"])
async def test_raw_input_is_typed_as_it_is(
    admin: httpx.AsyncClient, session: FakeSession, content_type: str
) -> None:
    raw = bytes(range(256)) * 4096
    assert len(raw) == MAX_BODY_BYTES
    answer = await admin.post(PATH + "/input", content=raw, headers={"content-type": content_type})
    assert answer.status_code == 204
    assert session.calls == [("input", raw)]


async def test_no_input_is_nothing_to_do(admin: httpx.AsyncClient, session: FakeSession) -> None:
    assert (await admin.post(PATH + "/input", json={"data": ""})).status_code == 204
    assert session.calls == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": 5},
        {"data": "x", "data_base64": "eA=="},
        {"data_base64": "x"},
        {"data_base64": "e A=="},
        {"data_base64": "✓"},
        {"data_base64": ["eA=="]},
    ],
)
async def test_wrong_input_is_not_typed(
    admin: httpx.AsyncClient, session: FakeSession, body: dict[str, Any]
) -> None:
    answer = await admin.post(PATH + "/input", json=body)
    assert (answer.status_code, problem_of(answer)["code"]) == (422, "bad_parameter")
    assert session.calls == []


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (SessionOver("over"), 409, None),
        (RunnerAway("away"), 409, None),
        (NotInControl("not you"), 409, None),
        (LimitReached("too much waits"), 429, "1"),
        (ProtocolError("bad_message", "no such thing"), 422, None),
    ],
)
async def test_input_that_cannot_be_typed_says_why(
    admin: httpx.AsyncClient, session: FakeSession, error: Any, status: int, retry: str | None
) -> None:
    session.error = error
    answer = await admin.post(PATH + "/input", json={"data": "x"})
    assert answer.status_code == status
    assert problem_of(answer)["code"] == error.code
    assert answer.headers.get("retry-after") == retry


@pytest.mark.parametrize("name", ["SIGINT", "INT", "int", "sigterm", "SIGWINCH", "INFO"])
async def test_a_signal_is_sent(admin: httpx.AsyncClient, session: FakeSession, name: str) -> None:
    assert (await admin.post(PATH + "/signal", json={"name": name})).status_code == 204
    assert session.calls == [("signal", name)]


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "x" * 17}, {"name": "A B"}, {"name": "\0"}, {"name": "9"}]
)
async def test_a_signal_that_is_none_is_refused(
    admin: httpx.AsyncClient, session: FakeSession, body: dict[str, Any]
) -> None:
    assert (await admin.post(PATH + "/signal", json=body)).status_code == 422
    assert session.calls == []


# --- size of bodies ----------------------------------------------------------------------------------------

RAW = [(b"host", b"localhost"), (b"authorization", b"Bearer admin-token-of-this-test")]


async def test_a_body_that_is_declared_too_large_is_not_read(asgi: Asgi) -> None:
    headers = [*RAW, (b"content-length", b"%d" % (MAX_BODY_BYTES + 1))]
    await asgi.request("POST", PATH + "/input", headers, [b"x"])
    assert (asgi.status, asgi.received) == (413, 0)
    assert json.loads(asgi.body)["code"] == "too_large"


async def test_a_body_that_turns_out_too_large_is_not_read_to_its_end(
    asgi: Asgi, session: FakeSession
) -> None:
    headers = [*RAW, (b"transfer-encoding", b"chunked"), (b"content-type", b"application/octet-stream")]
    await asgi.request("POST", PATH + "/input", headers, [b"x" * 65_536] * 100)
    assert asgi.status == 413
    assert asgi.received == 17
    assert json.loads(asgi.body)["code"] == "too_large"
    assert session.calls == []


# --- output and screen -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "offset", "data"),
    [
        ("", 4, b"456789"),
        ("?from=0", 4, b"456789"),
        ("?from=6", 6, b"6789"),
        ("?from=6&to=8", 6, b"67"),
        ("?from=6&to=6", 6, b""),
        ("?from=0&to=6", 4, b"45"),
        ("?from=0&to=2", 4, b""),
        ("?from=10", 10, b""),
        ("?from=99", 99, b""),
        (f"?from={2**63 - 1}", 2**63 - 1, b""),
    ],
)
async def test_output_is_given_from_an_offset(
    admin: httpx.AsyncClient, session: FakeSession, query: str, offset: int, data: bytes
) -> None:
    session.base, session.output = 4, b"456789"
    answer = await admin.get(PATH + "/output" + query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert (answer.headers["x-agentrelay-offset"], answer.content) == (str(offset), data)


async def test_one_answer_holds_a_bounded_amount_of_output(
    admin: httpx.AsyncClient, session: FakeSession
) -> None:
    session.output = b"x" * (MAX_OUTPUT_BYTES + 10)
    assert len((await admin.get(PATH + "/output")).content) == MAX_OUTPUT_BYTES
    assert len((await admin.get(PATH + f"/output?to={2**63 - 1}")).content) == MAX_OUTPUT_BYTES
    assert len((await admin.get(PATH + f"/output?from={MAX_OUTPUT_BYTES}")).content) == 10


async def test_an_answer_ends_where_output_has_been_deleted_meanwhile(
    admin: httpx.AsyncClient, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.output = bytes(range(256)) * 8192
    read = session.read_output

    async def read_and_delete(start: int, max_bytes: int) -> tuple[int, bytes]:
        answer = await read(start, max_bytes)
        session.base, session.output = 1_500_000, session.output[1_500_000:]
        return answer

    monkeypatch.setattr(session, "read_output", read_and_delete)
    answer = await admin.get(PATH + "/output")
    assert answer.headers["x-agentrelay-offset"] == "0"
    assert answer.content == bytes(range(256)) * 4096


@pytest.mark.parametrize(
    "query",
    [
        "from=-1",
        "from=x",
        "from=",
        "from=1.5",
        "from=1e3",
        f"from={2**63}",
        f"from={10**400}",
        "from=%00",
        "from=%ff",
        "from=null",
        "to=-1",
        f"to={2**64}",
        "from=5&to=4",
        "from=%F0%9F%92%A9",
    ],
)
async def test_a_wrong_offset_is_refused(admin: httpx.AsyncClient, session: FakeSession, query: str) -> None:
    answer = await admin.get(f"{PATH}/output?{query}")
    assert (answer.status_code, problem_of(answer)["code"]) == (422, "bad_parameter")
    assert session.calls == []


async def test_a_recording_is_given_as_an_asciicast(admin: httpx.AsyncClient, session: FakeSession) -> None:
    answer = await admin.get(PATH + "/recording")
    assert answer.content == b'{"version":3}\n[0.0,"o","x"]\n'
    assert answer.headers["content-type"] == "application/x-asciicast"
    assert "attachment" in answer.headers["content-disposition"]
    assert (await admin.get(PATH + "/recording?format=asciicast-v2")).content.startswith(b'{"version":2}')
    assert (await admin.get(PATH + "/recording?format=gif")).status_code == 422

    session.info = msgspec.structs.replace(session.info, recording=False)
    refused = await admin.get(PATH + "/recording")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_recorded")


async def test_the_screen_is_given_as_json_and_as_text(admin: httpx.AsyncClient) -> None:
    screen = (await admin.get(PATH + "/screen")).json()
    assert screen["text"] == ["$ ls✓", ""]
    assert screen["cursor"] == {"row": 1, "col": 0, "visible": True}
    text = await admin.get(PATH + "/screen?format=text")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert (text.text, text.headers["x-agentrelay-offset"]) == ("$ ls✓\n\n", "10")
    assert (await admin.get(PATH + "/screen?format=xml")).status_code == 422


async def test_the_screen_is_given_as_cells(admin: httpx.AsyncClient) -> None:
    assert "cells" not in (await admin.get(PATH + "/screen")).json()
    screen = (await admin.get(PATH + "/screen?format=cells")).json()
    assert screen["cells"] == [[{"text": "$ ls✓", "cols": 5, "fg": 2}], []]
    assert screen["text"] == ["$ ls✓", ""]


async def test_a_full_disk_is_told(admin: httpx.AsyncClient, hq: FakeHq) -> None:
    hq.registry.error = StoreFailed("HQ cannot use its database now: database or disk is full")
    answer = await admin.post("/api/sessions", json={"runner_id": "box"})
    assert (answer.status_code, problem_of(answer)["code"]) == (503, "storage_failed")
    assert "disk is full" in problem_of(answer)["detail"]


async def test_a_log_that_cannot_be_read_is_a_500_that_says_nothing(
    admin: httpx.AsyncClient, session: FakeSession, caplog: pytest.LogCaptureFixture
) -> None:
    session.error = LogError("/secret/path: input/output error")
    for path in ("/output", "/screen"):
        caplog.clear()
        answer = await admin.get(PATH + path)
        assert (answer.status_code, problem_of(answer)["code"]) == (500, "internal")
        assert "secret" not in answer.text
        assert len(caplog.records) == 1


# --- arbitrary requests ------------------------------------------------------------------------------------

METHODS_AND_PATHS = st.sampled_from(
    [
        ("POST", "/api/sessions"),
        ("PATCH", PATH),
        ("POST", PATH + "/input"),
        ("POST", PATH + "/signal"),
        ("GET", PATH + "/output"),
        ("GET", PATH + "/screen"),
    ]
)
FIELDS = st.sampled_from(
    ["runner_id", "command", "cwd", "env", "rows", "cols", "name", "recording", "data", "data_base64"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@ARBITRARY
@given(where=METHODS_AND_PATHS, body=st.dictionaries(FIELDS, VALUES, max_size=4) | VALUES)
async def test_no_json_gives_a_5xx(asgi: Asgi, where: tuple[str, str], body: Any) -> None:
    await asgi.request(*where, headers=RAW, body=[json.dumps(body).encode()])
    assert 200 <= asgi.status < 500


@ARBITRARY
@given(
    where=METHODS_AND_PATHS,
    body=st.lists(st.binary(max_size=30), max_size=4),
    query=st.binary(max_size=30),
)
async def test_no_bytes_give_a_5xx(
    asgi: Asgi, where: tuple[str, str], body: list[bytes], query: bytes
) -> None:
    await asgi.request(*where, headers=RAW, body=body, query=b"from=" + query)
    assert 200 <= asgi.status < 500


@ARBITRARY
@given(path=st.text(max_size=20), method=st.sampled_from(["GET", "HEAD", "POST", "DELETE", "PATCH"]))
async def test_no_path_gives_a_5xx(asgi: Asgi, path: str, method: str) -> None:
    for prefix in ("/", "/api/", "/api/sessions/", "/api/runners/"):
        await asgi.request(method, prefix + path, headers=RAW, body=[b"{}"])
        assert 200 <= asgi.status < 500 or path == "events"
