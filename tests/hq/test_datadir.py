import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentrelay.errors import ConfigError
from agentrelay.hq.datadir import DataDir, make_private, running_url


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_it_is_made_with_its_parents_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "share" / "agentrelay"
    with DataDir.acquire(path) as data_dir:
        assert data_dir.database == path / "hq.db"
        assert mode(path) == 0o700
        assert {file.name: mode(file) for file in path.iterdir()} == {"hq.lock": 0o600}


def test_an_open_one_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(0o755)
    make_private(path)
    assert mode(path) == 0o700


def test_two_hqs_cannot_share_one(tmp_path: Path) -> None:
    with DataDir.acquire(tmp_path / "data") as first:
        first.announce("http://127.0.0.1:1")
        with pytest.raises(ConfigError, match="another HQ uses --data-dir"):
            DataDir.acquire(tmp_path / "data", wait_s=0)
        assert running_url(tmp_path / "data") == "http://127.0.0.1:1"
    with DataDir.acquire(tmp_path / "data", wait_s=0):
        pass


def test_a_killed_hq_lets_go_of_it(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from agentrelay.hq.datadir import DataDir;"
        "held = DataDir.acquire(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ConfigError, match="another HQ"):
            DataDir.acquire(tmp_path, wait_s=0)
        other.kill()  # and not yet reaped: the wait below is acquire's own
        DataDir.acquire(tmp_path, wait_s=30).release()


def test_the_address_is_known_only_while_its_hq_runs(tmp_path: Path) -> None:
    path = tmp_path / "data"
    assert running_url(path) is None
    with DataDir.acquire(path) as data_dir:
        assert running_url(path) is None
        data_dir.announce("http://127.0.0.1:8080")
        data_dir.announce("http://[::1]:1")
        assert running_url(path) == "http://[::1]:1"
    assert running_url(path) is None
    with DataDir.acquire(path):
        assert running_url(path) is None  # the next one has not said where it is yet


def test_a_directory_used_for_other_things_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(ConfigError, match="choose a directory below it"):
        DataDir.acquire(shared)
    assert mode(shared) == 0o1777
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="choose a directory below it"):
        DataDir.acquire(tmp_path)
    with pytest.raises(ConfigError, match="choose a directory below it"):
        DataDir.acquire(Path("/"))


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        DataDir.acquire(tmp_path)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(ConfigError, match="cannot make --data-dir"):
            DataDir.acquire(path)


def test_a_lock_that_is_a_link_elsewhere_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hq.lock").symlink_to(victim)
    with pytest.raises(ConfigError, match="cannot write to --data-dir"):
        DataDir.acquire(tmp_path / "data")
    assert victim.read_text() == "precious"
