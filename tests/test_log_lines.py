"""Log lines: nobody else can write one."""

import logging
import sys

import pytest

from agentrelay.log_lines import OneLine


def line(message: str, *arguments: object) -> str:
    record = logging.LogRecord("agentrelay", logging.INFO, "file", 1, message, arguments, None)
    return OneLine("%(levelname)s %(message)s").format(record)


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\x0b", "\x85", "\u009b31m", "\x1b[2J"])
def test_what_others_say_stays_on_its_line(separator: str) -> None:
    said = line("runner says: %s", f"x{separator}INFO a login from 10.0.0.1")

    assert said.splitlines() == [said]
    assert said.isprintable()
    assert "a login" in said


def test_text_of_any_language_is_left_as_it_is() -> None:
    assert line("%s", "Läufer 走る ✓") == "INFO Läufer 走る ✓"


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        record = logging.LogRecord("agentrelay", logging.ERROR, "file", 1, "failed", (), sys.exc_info())

    assert OneLine("%(message)s").format(record).splitlines()[0] == "failed"
    assert OneLine("%(message)s").format(record).splitlines()[-1] == "ValueError: wrong"
