"""An asciicast of a session replays what the session wrote."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.hq.log.export import asciicast
from agentrelay.hq.log.format import End, Gap, Input, Output, Record, Resize

S = 1_000_000
RECORDS: list[Record] = [
    Resize(0, 10 * S, 24, 80),
    Output(0, 11 * S, b"hi "),
    Output(3, 12 * S, "ü".encode()[:1]),
    Resize(4, 13 * S, 50, 132),
    Output(4, 12 * S + 500_000, "ü".encode()[1:]),
    Input(5, 14 * S, "tab", 3, None),
    Input(5, 14 * S, "tab", 3, b"ls\n"),
    Output(5, 15 * S, "€".encode()[:2]),
    Gap(7, 16 * S, 107),
    End(107, 17 * S, None, 9),
]


def lines(records: list[Record], version: Literal[2, 3]) -> list[Any]:
    return [json.loads(line) for line in asciicast(iter(records), version=version, title="demo")]


def test_version_3_has_intervals_and_the_exit_status() -> None:
    assert lines(RECORDS, 3) == [
        {"version": 3, "term": {"cols": 80, "rows": 24}, "timestamp": 11, "title": "demo"},
        [0.0, "o", "hi "],
        [2.0, "r", "132x50"],
        [0.0, "o", "ü"],
        [1.0, "i", "ls\n"],
        [2.0, "o", "�"],
        [0.0, "m", "100 bytes lost"],
        [1.0, "x", "137"],
    ]


def test_version_2_has_times_since_the_start() -> None:
    assert lines(RECORDS, 2) == [
        {"version": 2, "width": 80, "height": 24, "timestamp": 11, "title": "demo"},
        [0.0, "o", "hi "],
        [2.0, "r", "132x50"],
        [2.0, "o", "ü"],
        [3.0, "i", "ls\n"],
        [5.0, "o", "�"],
        [5.0, "m", "100 bytes lost"],
    ]


@pytest.mark.parametrize(("exit_code", "status"), [(0, "0"), (3, "3"), (None, "255")])
def test_the_exit_status_is_the_shells(exit_code: int | None, status: str) -> None:
    assert lines([Resize(0, 0, 24, 80), End(0, 0, exit_code, None)], 3)[-1] == [0.0, "x", status]


def test_an_empty_log_is_a_header() -> None:
    assert lines([Resize(0, 5 * S, 24, 80)], 3) == [
        {"version": 3, "term": {"cols": 80, "rows": 24}, "timestamp": 5, "title": "demo"}
    ]
    assert lines([], 2)[0]["width"] == 80


@given(text=st.text(), cuts=st.lists(st.integers(0, 50)))
def test_however_it_is_cut_the_text_comes_out(text: str, cuts: list[int]) -> None:
    data = text.encode(errors="replace")
    records: list[Record] = [Resize(0, 0, 24, 80)]
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        if start < min(cut, len(data)):
            records.append(Output(start, 0, data[start:cut]))
            start = cut
    shown = "".join(line[2] for line in lines(records, 3)[1:])
    assert shown == data.decode()
