"""Read turns: long while nobody types elsewhere, short and with breaks while somebody does."""

import pytest

from agentrelay.runner.read_turn import (
    BREAK_US,
    LONG_BYTES,
    PIECE_BYTES,
    ROUND_BYTES,
    SHORT_BYTES,
    TYPING_US,
    ReadTurn,
)

ONE, OTHER, THIRD = "one", "other", "third"


def is_short(turn: ReadTurn, session: str, now_us: int) -> bool:
    short = turn.bytes_at(session, now_us) == SHORT_BYTES
    assert short or turn.bytes_at(session, now_us) == LONG_BYTES
    assert turn.break_after(session, now_us, LONG_BYTES) == (BREAK_US if short else 0)
    return short


def test_turns_are_long_while_nobody_types() -> None:
    assert not is_short(ReadTurn(), ONE, 0)


def test_turns_are_short_for_a_second_after_a_key_for_another_session() -> None:
    turn = ReadTurn()
    turn.typed(ONE, 5_000)
    last_us = 5_000 + TYPING_US - 1
    for now_us in (5_000, last_us):
        assert is_short(turn, OTHER, now_us)
        assert turn.break_after(OTHER, now_us, SHORT_BYTES - 1) == 0, "it has been read empty"
    assert not is_short(turn, OTHER, last_us + 1)


def test_what_a_session_prints_after_its_own_key_is_what_was_asked_for() -> None:
    turn = ReadTurn()
    turn.typed(ONE, 0)
    turn.typed(ONE, 500_000)
    assert not is_short(turn, ONE, 500_001)


def test_two_who_type_make_room_for_each_other() -> None:
    turn = ReadTurn()
    turn.typed(ONE, 0)
    turn.typed(OTHER, 10_000)
    turn.typed(OTHER, 20_000)
    assert is_short(turn, OTHER, TYPING_US - 1)
    assert not is_short(turn, OTHER, TYPING_US)
    for session in (ONE, THIRD):
        assert is_short(turn, session, 20_000 + TYPING_US - 1)
        assert not is_short(turn, session, 20_000 + TYPING_US)


@pytest.mark.parametrize("n_sessions", [9, 50, 100, 1000])
def test_many_who_print_at_once_share_a_round(n_sessions: int) -> None:
    turn = ReadTurn()
    rounds = [[turn.bytes_at(session, 0) for session in range(n_sessions)] for _ in range(3)]
    assert rounds[0][0] == LONG_BYTES, "who will come is not known before"
    assert sum(rounds[0]) < n_sessions * LONG_BYTES
    assert set(rounds[1]) == set(rounds[2])
    (share_bytes,) = set(rounds[1])
    assert sum(rounds[1]) <= max(ROUND_BYTES, n_sessions * PIECE_BYTES)
    assert share_bytes % PIECE_BYTES == 0
    assert share_bytes > ROUND_BYTES / n_sessions - PIECE_BYTES
    # When one is left, it has all of it again.
    assert [turn.bytes_at(0, 0) for _ in range(3)][1:] == [LONG_BYTES] * 2


def test_many_who_print_at_once_have_breaks_too_while_somebody_types() -> None:
    turn = ReadTurn()
    turn.typed("typist", 0)
    for _ in range(2):
        for session in range(100):
            share_bytes = turn.bytes_at(session, 1)
    assert share_bytes < SHORT_BYTES
    assert turn.break_after(0, 1, share_bytes) == BREAK_US
    assert turn.break_after(0, 1, share_bytes - 1) == 0, "it has been read empty"
