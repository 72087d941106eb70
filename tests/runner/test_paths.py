"""The private directory: found by the runner id alone, ours alone."""

import hashlib
import os
import socket
import stat
from pathlib import Path

import pytest

from agentrelay.errors import ConfigError
from agentrelay.runner.paths import (
    KEEPER_SOCKET,
    RUNNER_LOCK,
    RunnerDirectory,
    lock_holder,
    open_runner_directory,
    read_instance,
    take_lock,
)

NAME = hashlib.sha256(b"box").hexdigest()[:16]


def opened(environ: dict[str, str]) -> RunnerDirectory:
    directory = open_runner_directory("box", environ)
    assert directory is not None
    return directory


def test_it_is_below_the_runtime_directory_and_closed_to_others(tmp_path: Path) -> None:
    directory = opened({"XDG_RUNTIME_DIR": str(tmp_path)})
    directory.close()
    path = tmp_path / "agentrelay" / NAME
    assert directory.path == str(path)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("runtime", [None, "", "relative", "/does/not/exist", "/etc/passwd"])
def test_without_a_usable_runtime_directory_it_is_below_tmpdir(tmp_path: Path, runtime: str | None) -> None:
    environ = {"TMPDIR": str(tmp_path)} | ({} if runtime is None else {"XDG_RUNTIME_DIR": runtime})
    directory = opened(environ)
    directory.close()
    assert directory.path == str(tmp_path / f"agentrelay-{os.geteuid()}" / NAME)


def test_the_runtime_directory_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with pytest.raises(ConfigError, match="belongs to user"):
        # It goes on to TMPDIR, where what it makes is, in this test, not its own either.
        open_runner_directory("box", {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(temporary)})
    assert not (tmp_path / "agentrelay").exists()


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "agentrelay").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="private directory"):
        opened({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_one_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "agentrelay").mkdir()
    (tmp_path / "agentrelay").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 700"):
        opened({"XDG_RUNTIME_DIR": str(tmp_path)})


def test_looking_does_not_make_it(tmp_path: Path) -> None:
    assert open_runner_directory("box", {"XDG_RUNTIME_DIR": str(tmp_path)}, create=False) is None
    assert not (tmp_path / "agentrelay").exists()


def test_its_socket_works_below_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 150)
    long.mkdir()
    directory = opened({"XDG_RUNTIME_DIR": str(long)})
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(directory.address(KEEPER_SOCKET))
        listener.listen()
        client.connect(directory.address(KEEPER_SOCKET))
    assert (Path(directory.path) / KEEPER_SOCKET).is_socket()
    directory.close()


def test_a_file_in_it_is_ours_alone_and_never_a_link(directory: RunnerDirectory, tmp_path: Path) -> None:
    fd = directory.open("some.log", os.O_WRONLY | os.O_CREAT)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    os.close(fd)
    target = tmp_path / "target"
    target.touch()
    Path(directory.path, "planted").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        directory.open("planted", os.O_WRONLY)


def test_one_process_holds_a_lock_and_others_see_which(directory: RunnerDirectory) -> None:
    assert lock_holder(directory, RUNNER_LOCK) is None
    lock = take_lock(directory, RUNNER_LOCK)
    assert lock is not None
    assert take_lock(directory, RUNNER_LOCK) is None
    assert lock_holder(directory, RUNNER_LOCK) == os.getpid()
    lock.release()
    assert lock_holder(directory, RUNNER_LOCK) is None, "the pid in the file is a dead one's"
    again = take_lock(directory, RUNNER_LOCK)
    assert again is not None
    again.release()


def test_its_instance_stays_the_same_and_is_not_another_directorys(
    directory: RunnerDirectory, tmp_path: Path
) -> None:
    instance = read_instance(directory)
    assert len(instance) == 16
    assert read_instance(directory) == instance
    other = open_runner_directory("other", {"TMPDIR": str(tmp_path)})
    assert other is not None
    assert read_instance(other) != instance
    other.close()


@pytest.mark.parametrize("damaged", [b"", b"short", b"\xff" * 16, b"x" * 500])
def test_a_damaged_instance_is_made_anew(directory: RunnerDirectory, damaged: bytes) -> None:
    Path(directory.path, "instance").write_bytes(damaged)
    instance = read_instance(directory)
    assert len(instance) == 16
    assert read_instance(directory) == instance
