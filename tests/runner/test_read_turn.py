"""Read turns: long while nobody types, short and with breaks while somebody does."""

from agentrelay.runner.read_turn import BREAK_US, LONG_BYTES, SHORT_BYTES, TYPING_US, ReadTurn


def test_turns_are_long_and_without_breaks_while_nobody_types() -> None:
    turn = ReadTurn()
    assert turn.bytes_at(0) == LONG_BYTES
    assert turn.break_after(0, LONG_BYTES) == 0


def test_turns_are_short_and_floods_have_breaks_for_a_second_after_a_key() -> None:
    turn = ReadTurn()
    turn.typed(5_000)
    last_us = 5_000 + TYPING_US - 1
    for now_us in (5_000, last_us):
        assert turn.bytes_at(now_us) == SHORT_BYTES
        assert turn.break_after(now_us, SHORT_BYTES) == BREAK_US
        assert turn.break_after(now_us, SHORT_BYTES - 1) == 0, "it has been read empty"
    assert turn.bytes_at(last_us + 1) == LONG_BYTES
    assert turn.break_after(last_us + 1, SHORT_BYTES) == 0
