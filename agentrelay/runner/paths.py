"""The private directory of one runner id: where its keeper's socket, its locks and its small logs live.

docs/protocol.md section 4 says which directory. Two processes that know the runner id and nothing else find
the same one, and nobody but their user can enter it or put something in its place: every level is opened
without following links and its owner and mode are looked at on the open descriptor. The socket is reached
through that descriptor, so its path can be longer than the 108 bytes a socket address holds.

The keeper imports this module: stdlib only.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Mapping

from agentrelay.errors import ConfigError

KEEPER_SOCKET = "keeper.sock"
KEEPER_LOCK = "keeper.lock"
KEEPER_LOG = "keeper.log"
RUNNER_LOCK = "runner.lock"
INSTANCE = "instance"
"""Which of those that call themselves by one runner id this is: another machine's has another."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class RunnerDirectory:
    """An open private directory; files in it are named relative to it, so nothing can be swapped under it.

    Attributes:
        path: where it is, for messages only.
        fd: its descriptor, owned by this object.
    """

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    def address(self, name: str) -> str:
        """Give the address of the unix socket `name` in here: short, however long the path is."""
        short = f"/proc/self/fd/{self.fd}/{name}"
        return short if os.path.isdir("/proc/self/fd") else os.path.join(self.path, name)

    def open(self, name: str, flags: int) -> int:
        """Open a file in here (0600 if it is made); the descriptor is the caller's and is not inherited."""
        return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=self.fd)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def read_instance(directory: RunnerDirectory) -> str:
    """Give the instance of this directory, made on first use. The runner lock is held."""
    fd = directory.open(INSTANCE, os.O_RDWR | os.O_CREAT)
    try:
        instance = os.pread(fd, 64, 0).decode("ascii", "replace")
        if len(instance) != 16 or not instance.isalnum():
            instance = os.urandom(8).hex()
            os.ftruncate(fd, 0)
            os.pwrite(fd, instance.encode(), 0)
        return instance
    finally:
        os.close(fd)


class Lock:
    """A lock file that is held: as long as this object's descriptor is open, or its process lives.

    The file stays when the lock goes: removing it would let two processes hold "the" lock.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._fd)


def take_lock(directory: RunnerDirectory, name: str) -> Lock | None:
    """Take the lock `name` and write this process's pid into it; None if another process holds it."""
    fd = directory.open(name, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return Lock(fd)


def lock_holder(directory: RunnerDirectory, name: str) -> int | None:
    """Give the pid of the process that holds the lock `name`; None if it is free.

    0 stands for a holder that has not written its pid yet.
    """
    try:
        fd = directory.open(name, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)


def directory_name(runner_id: str) -> str:
    """Give the name of the directory of a runner id: 16 hex digits."""
    import hashlib  # here: it loads libcrypto, several megabytes that the keeper has no use for

    return hashlib.sha256(runner_id.encode()).hexdigest()[:16]


def open_runner_directory(
    runner_id: str, environ: Mapping[str, str] = os.environ, *, create: bool = True
) -> RunnerDirectory | None:
    """Open the private directory of `runner_id`, making it if need be.

    Args:
        runner_id: a valid runner id.
        environ: where `XDG_RUNTIME_DIR` and `TMPDIR` are looked up.
        create: whether to make what is missing.

    Returns:
        The directory; None if it does not exist and `create` is false.

    Raises:
        ConfigError: it cannot be made, or somebody else could get at it.
    """
    parent, name = _base(environ)
    try:
        parent_fd = os.open(parent, _DIRECTORY)
    except OSError as error:
        advice = "set TMPDIR to a directory of yours"
        raise ConfigError(f"cannot open {parent}: {error.strerror}; {advice}") from None
    base = os.path.join(parent, name)
    base_fd = _open_private(parent_fd, name, base, create=create)
    if base_fd is None:
        return None
    path = os.path.join(base, directory_name(runner_id))
    fd = _open_private(base_fd, directory_name(runner_id), path, create=create)
    return None if fd is None else RunnerDirectory(fd, path)


def _base(environ: Mapping[str, str]) -> tuple[str, str]:
    """Give `(parent, name)` of the directory that holds the directories of all runner ids of this user."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and _is_ours(runtime):
        return runtime, "agentrelay"
    return environ.get("TMPDIR") or "/tmp", f"agentrelay-{os.geteuid()}"  # noqa: S108 - made 0700, checked


def _is_ours(path: str) -> bool:
    """Tell whether `path` is a directory of this user: after `su` the variable still names another's."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _open_private(parent_fd: int, name: str, path: str, *, create: bool) -> int | None:
    """Open directory `name` in `parent_fd` (which is closed), after making sure that it is ours alone."""
    try:
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent_fd)
    except FileNotFoundError:
        if create:
            raise
        return None
    except OSError as error:
        raise ConfigError(f"cannot use {path} as a private directory: {error.strerror}") from None
    finally:
        os.close(parent_fd)
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        os.close(fd)
        advice = "remove it, or set XDG_RUNTIME_DIR to a directory of yours"
        raise ConfigError(f"{path} belongs to user {status.st_uid}, not to you: {advice}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        os.close(fd)
        raise ConfigError(f"{path} is open to others: see what is in it, then chmod 700 {path}")
    return fd
