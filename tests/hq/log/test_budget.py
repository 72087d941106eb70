"""The limit over all logs: whose output goes first."""

from pathlib import Path

from agentrelay.hq.log.budget import LogBudget
from agentrelay.hq.log.format import End
from agentrelay.hq.log.session_log import LogLimits, SessionLog

LIMITS = LogLimits(keep_bytes=1 << 20, segment_bytes=1500)


def make(directory: Path, name: str, n_segments: int, ended_us: int | None = None) -> SessionLog:
    log = SessionLog(directory / name, session_id=name, epoch="e", rows=24, cols=80, limits=LIMITS)
    for _ in range(n_segments):
        log.append_output(log.end, bytes(1000))
    if ended_us is not None:
        log.append(End(log.end, ended_us, 0, None))
    log.close_file()
    return log


def kept(log: SessionLog) -> int:
    return log.end - log.base


def budget_of(total_bytes: int, *logs: SessionLog) -> LogBudget:
    budget = LogBudget(total_bytes)
    for log in logs:
        budget.add(log)
    return budget


def test_within_the_limit_nothing_goes(tmp_path: Path) -> None:
    log = make(tmp_path, "a", 5, 1)
    budget_of(10_000, log).enforce()
    assert kept(log) == 5000


def test_who_ended_first_goes_first_and_the_living_last(tmp_path: Path) -> None:
    live, late, early = make(tmp_path, "a", 3), make(tmp_path, "b", 3, 20), make(tmp_path, "c", 3, 10)
    budget = budget_of(9200, live, late, early)
    budget.enforce()
    assert (kept(live), kept(late), kept(early)) == (3000, 3000, 1000)
    budget.total_bytes = 5500
    budget.enforce()
    assert (kept(live), kept(late), kept(early)) == (3000, 1000, 0)
    assert budget.used_bytes <= 5500


def test_live_sessions_lose_their_oldest_segment_but_never_the_newest(tmp_path: Path) -> None:
    older, newer = make(tmp_path, "a", 3), make(tmp_path, "b", 3)
    budget = budget_of(6500, older, newer)
    budget.enforce()
    assert (kept(older), kept(newer)) == (2000, 3000)
    budget.total_bytes = 0
    budget.enforce()
    assert (kept(older), kept(newer)) == (1000, 1000)


def test_a_removed_log_is_not_counted(tmp_path: Path) -> None:
    log = make(tmp_path, "a", 3, 1)
    budget = budget_of(0, log)
    budget.remove(log)
    budget.remove(log)
    assert budget.used_bytes == 0
    budget.enforce()
    assert kept(log) == 3000


def test_a_log_whose_directory_is_gone_spoils_nothing(tmp_path: Path) -> None:
    gone, other = make(tmp_path, "a", 1, 1), make(tmp_path, "b", 3, 2)
    budget = budget_of(500, gone, other)
    for path in gone.directory.iterdir():
        path.unlink()
    gone.directory.rmdir()
    budget.enforce()
    assert kept(other) == 0
