"""The directory HQ keeps everything in: private to its user, and held by one HQ at a time."""

import fcntl
import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from agentrelay.errors import ConfigError

DATABASE_FILE = "hq.db"
_LOCK_FILE = "hq.lock"
_LOCK_RETRY_S = 0.02
_MAX_URL_BYTES = 4096


class DataDir:
    """A data directory that this process holds until `release`, or until it dies however it dies.

    Attributes:
        path: the directory.
        database: path of the database in it.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.database = path / DATABASE_FILE
        self._lock_fd = lock_fd

    @classmethod
    def acquire(cls, path: Path, *, wait_s: float = 2.0) -> Self:
        """Make `path` (mode 0700) where it is missing, and take it. Blocks: call it before the loop runs.

        Args:
            path: the directory.
            wait_s: how long to wait for an HQ that is on its way out, such as one that was just killed.

        Raises:
            ConfigError: it cannot be made or is not ours, or another HQ has it.
        """
        make_private(path)
        try:
            lock_fd = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot write to --data-dir {path}: {error.strerror}") from error
        try:
            _lock(lock_fd, wait_s)
        except OSError as error:
            os.close(lock_fd)
            if isinstance(error, BlockingIOError):
                what = f"another HQ uses --data-dir {path}: stop it, or choose another directory"
            else:
                what = f"cannot lock --data-dir {path}: {error.strerror}"
            raise ConfigError(what) from error
        os.ftruncate(lock_fd, 0)
        return cls(path, lock_fd)

    def announce(self, url: str) -> None:
        """Leave the address HQ can be reached at for `running_url`."""
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, url.encode(), 0)

    def release(self) -> None:
        """Let another HQ take the directory."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lock(fd: int, wait_s: float) -> None:
    """Lock `fd`; raises BlockingIOError when another process still has it after `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOCK_RETRY_S)
        else:
            return


def running_url(path: Path) -> str | None:
    """Give the address of the HQ that holds the data directory `path` now; None where none is ready."""
    try:
        fd = os.open(path / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(fd, _MAX_URL_BYTES).decode("utf-8", "replace") or None
    else:
        return None
    finally:
        os.close(fd)


def make_private(path: Path) -> None:
    """Make the directory `path`, or make sure that it is this user's and closed to others.

    Raises:
        ConfigError: it is not a directory, or not this user's, or shared as /tmp is.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot make --data-dir {path}: {error.strerror}") from error
    if status.st_uid != os.geteuid():
        raise ConfigError(f"--data-dir {path} belongs to another user: choose a directory of your own")
    if status.st_mode & stat.S_ISVTX or path.resolve() in (Path("/"), Path.home().resolve()):
        raise ConfigError(f"--data-dir {path} is used for other things: choose a directory below it")
    if stat.S_IMODE(status.st_mode) & 0o077:
        path.chmod(0o700)
