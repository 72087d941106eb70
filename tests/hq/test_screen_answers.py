"""What HQ tells a program that asks its terminal while nobody is there to answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.hq.screen.answers import MAX_ANSWER_BYTES, safe_answer, safe_answers
from agentrelay.hq.screen.local import LocalScreen


class Screen:
    """A screen that gives the answers that HQ sends."""

    def __init__(self, *, rows: int, cols: int) -> None:
        self.local = LocalScreen(rows=rows, cols=cols)

    def feed(self, data: bytes, *, answer: bool = False) -> bytes:
        return safe_answers(self.local.feed(data, answer=answer))


ANSWERED = {
    b"\x1b[c": b"\x1b[?1;2c",
    b"\x1b[0c": b"\x1b[?1;2c",
    b"\x1bZ": b"\x1b[?1;2c",
    b"\x1b[>c": b"\x1b[>0;276;0c",
    b"\x1b[5n": b"\x1b[0n",
    b"\x1b[3;7H\x1b[6n": b"\x1b[3;7R",
    b"\x1b[>q": b"\x1bP>|AgentRelay\x1b\\",
    b"\x1b[?2004$p": b"\x1b[?2004;2$y",
    b"\x1b[?2004h\x1b[?2004$p": b"\x1b[?2004;1$y",
    b"\x1b[?2026$p": b"\x1b[?2026;2$y",
    b"\x1b[4$p": b"\x1b[4;2$y",
    b"\x1b[?2027$p": b"\x1b[?2027;0$y",  # xterm.js does not know it
    b"\x1b[?2048$p": b"\x1b[?2048;0$y",
    b"\x1b[?9999$p": b"\x1b[?9999;0$y",
    b"\x1b]10;?\x07": b"\x1b]10;rgb:dfdf/e2e2/e7e7\x07",
    b"\x1b]11;?\x1b\\": b"\x1b]11;rgb:0f0f/1010/1212\x1b\\",
    b"\x1b]12;?\x07": b"\x1b]12;rgb:9898/a6a6/ffff\x07",
    b"\x1b]11;#ffffff\x07\x1b]11;?\x07": b"\x1b]11;rgb:ffff/ffff/ffff\x07",
    b"\x1b]4;15;?\x07": b"\x1b]4;15;rgb:eaea/eaea/eaea\x07",
    b"\x1bP$qm\x1b\\": b"\x1bP1$r0m\x1b\\",
    b"\x1b[2;5r\x1bP$qr\x1b\\": b"\x1bP1$r2;5r\x1b\\",
    b"\x1bP$q q\x1b\\": b"\x1bP1$r2 q\x1b\\",
}
NOT_ANSWERED = [
    b"\x1b]2;rm -rf ~\r\x07\x1b[21t",  # the title, into its own input
    b"\x1b]1;icon\x07\x1b[20t",
    b"\x1b]52;c;?\x07",  # the clipboard
    b"\x1b]5522;type=read;\x1b\\",
    b"\x05",
    b"\x1b[?u",  # keyboard protocols that xterm.js does not speak
    b"\x1b[?4m",
    b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
    b"\x1b]21;foreground=?\x07",
    b"\x1bP+q544e\x1b\\",
    b"\x1b[14t\x1b[16t\x1b[18t",
    b"\x1b[?996n",
    b"\x1b]7;file:///etc\x07\x1b]7;?\x07",
    b"\x1b]8;;http://x\x07text\x1b]8;;\x07",
    b"plain text \xff\xfe",
]


@pytest.mark.parametrize("query", ANSWERED)
def test_queries_are_answered_as_xterm_js_would(query: bytes) -> None:
    assert Screen(rows=24, cols=80).feed(query, answer=True) == ANSWERED[query]


@pytest.mark.parametrize("query", NOT_ANSWERED)
def test_nothing_else_is_answered(query: bytes) -> None:
    assert Screen(rows=24, cols=80).feed(query, answer=True) == b""


@pytest.mark.parametrize("query", ANSWERED)
def test_a_replay_is_not_answered(query: bytes) -> None:
    screen = Screen(rows=24, cols=80)
    assert screen.feed(query) == b""
    assert screen.feed(b"", answer=True) == b""


def test_a_resize_is_not_reported() -> None:
    screen = Screen(rows=24, cols=80)
    screen.feed(b"\x1b[?2048h", answer=True)
    screen.local.resize(rows=30, cols=90)
    assert screen.feed(b"", answer=True) == b""


def test_answers_come_in_order_across_pieces() -> None:
    screen = Screen(rows=24, cols=80)
    assert screen.feed(b"\x1b[5n\x1b[", answer=True) == b"\x1b[0n"
    assert screen.feed(b"c\x1b[6n", answer=True) == b"\x1b[?1;2c\x1b[1;1R"


def test_answers_are_bounded() -> None:
    screen = Screen(rows=24, cols=80)
    answers = screen.feed(b"\x1b[c" * 100_000, answer=True)
    assert MAX_ANSWER_BYTES - 10 < len(answers) <= MAX_ANSWER_BYTES
    assert answers == b"\x1b[?1;2c" * (len(answers) // 7)


@given(st.binary(max_size=40))
def test_what_a_program_makes_up_is_no_safe_answer(reply: bytes) -> None:
    assert safe_answer(b"\x1b]2;" + reply + b"\x07") == b""
    assert safe_answer(reply + b"\r") == b""


@given(st.lists(st.sampled_from([*ANSWERED, *NOT_ANSWERED, b"ls\r", b"$(x)\n"]) | st.binary(max_size=20)))
def test_no_answer_has_a_control_character_that_acts(pieces: list[bytes]) -> None:
    """A line feed or carriage return in the program's input would run what stands before it."""
    answers = Screen(rows=5, cols=20).feed(b"".join(pieces), answer=True)
    assert not set(answers) & {0x03, 0x04, 0x0A, 0x0D, 0x15, 0x1A, 0x1C, 0x7F}
