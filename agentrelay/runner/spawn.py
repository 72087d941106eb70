"""Starts a program on a PTY of its own, or says for people why it cannot.

ptyprocess forks and executes. It looks a command up in the PATH of its *caller*, and in the child it lets
every exception but an OSError of `exec` escape, which would leave a second copy of the calling process
running: so everything that can be wrong is looked at before the fork, and the rest is done in `preexec_fn`,
whose exceptions it does carry back.

The keeper imports this module: stdlib and ptyprocess only.
"""

import contextlib
import errno
import os
import signal
import stat
import termios
from collections.abc import Mapping, Sequence

from ptyprocess import PtyProcess  # type: ignore[import-untyped]

from agentrelay.errors import KeeperError
from agentrelay.open_files import restore

_IUTF8 = 0o40000
"""Input flag of a terminal: erase whole UTF-8 characters in line mode (Linux; not in the termios module)."""


class SpawnFailed(KeeperError):
    """A program was not started.

    Attributes:
        code: `command_not_found`, `cwd_not_found` or `start_failed`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Child(PtyProcess):  # type: ignore[misc]
    """A PtyProcess that leaves the process alone when it is thrown away; the original kills it and sleeps."""

    closed: bool

    def close(self, force: bool = True) -> None:
        """Close the PTY and nothing else."""
        if not self.closed:
            self.closed = True
            self.fileobj.close()


def spawn(
    command: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    rows: int,
    cols: int,
    open_files: int | None = None,
) -> tuple[int, int]:
    """Start `command` on a new PTY, as the leader of a new process session.

    Args:
        command: program and arguments. Without a slash it is looked up in the PATH of `env`.
        cwd: absolute path of its working directory.
        env: its whole environment.
        rows: 1 to 1000.
        cols: 1 to 1000.
        open_files: how many it may have open, unless it asks for more; None: as many as this process.

    Returns:
        `(pid, fd)`: the command itself, which the caller has to reap, and the PTY master, which the caller
        owns; it is non-blocking and not inherited by other programs.

    Raises:
        SpawnFailed: it did not start; nothing is left of it, but for a child to reap.
    """
    _check_text([*command, cwd, *env, *env.values()])
    if not command:
        raise SpawnFailed("start_failed", "the command is empty")
    if any(not name or "=" in name for name in env):
        raise SpawnFailed("start_failed", 'the name of an environment variable is empty or has a "=" in it')
    _check_cwd(cwd)
    _check_pty()
    program = find_program(command[0], cwd=cwd, path=env.get("PATH", os.defpath))
    caller = os.getpid()
    try:
        child = _Child.spawn(
            [program, *command[1:]],
            env=dict(env),
            dimensions=(rows, cols),
            preexec_fn=lambda: _prepare(cwd, open_files),
        )
        fd = os.dup(child.fd)
    except OSError as error:
        raise SpawnFailed(*_reason(error, program, cwd)) from None
    except Exception as error:
        # ptyprocess passes on whatever name of an exception its child reports.
        raise SpawnFailed("start_failed", f"{program} was not started: {error}") from None
    finally:
        if os.getpid() != caller:
            # The child came back without executing the program: it must not go on as a second us.
            os._exit(127)
    child.close()
    os.set_blocking(fd, False)
    return child.pid, fd


def find_program(name: str, *, cwd: str, path: str) -> str:
    """Give the absolute path of the program that `name` means in `cwd` with the PATH `path`.

    Raises:
        SpawnFailed: there is none, code `command_not_found`; the message says what was looked at.
    """
    if "/" in name:
        program = os.path.join(cwd, name)
        if _is_program(program):
            return program
        if not os.path.exists(program):
            raise SpawnFailed("command_not_found", f"there is no file {program}")
        raise SpawnFailed("command_not_found", f"{program} is not a file that you may execute")
    for directory in path.split(os.pathsep):
        program = os.path.join(cwd, directory, name)
        if name and _is_program(program):
            return program
    raise SpawnFailed("command_not_found", f"no program {name!r} on the PATH of the runner ({path})")


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _check_text(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            data = os.fsencode(text)
        except UnicodeEncodeError:
            raise SpawnFailed("start_failed", f"{text!r} is not text") from None
        if b"\0" in data:
            raise SpawnFailed("start_failed", f"{text!r} has a NUL byte in it, which ends a string")


def _check_cwd(cwd: str) -> None:
    try:
        mode = os.stat(cwd).st_mode
    except OSError as error:
        raise SpawnFailed("cwd_not_found", f"cannot work in {cwd}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise SpawnFailed("cwd_not_found", f"{cwd} is not a directory")


def _check_pty() -> None:
    """Open a PTY and close it again: where there is none left, ptyprocess would leak two descriptors."""
    try:
        for fd in os.openpty():
            os.close(fd)
    except OSError as error:
        raise SpawnFailed("start_failed", f"the system has no PTY left: {error.strerror}") from None


def _reason(error: OSError, program: str, cwd: str) -> tuple[str, str]:
    """Give code and message for what the fork, the child or `exec` reported."""
    if error.errno is None:
        return "cwd_not_found", f"cannot work in {cwd}: {error}"
    if error.errno == errno.ENOENT:
        return "start_failed", f"{program} was not started: the interpreter that it names does not exist"
    return "start_failed", f"{program} was not started: {os.strerror(error.errno)}"


def _prepare(cwd: str, open_files: int | None) -> None:
    """Make the child what a program expects; runs in the child, after its PTY is set up."""
    try:
        os.chdir(cwd)
    except OSError as error:
        # ptyprocess carries an errno back for a plain OSError only: that tells this from a failing exec.
        raise PermissionError(error.strerror) from None
    if open_files is not None:
        restore(open_files)
    for number in signal.valid_signals():
        with contextlib.suppress(OSError):  # SIGKILL and SIGSTOP cannot be set
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(termios.error):
        attributes = termios.tcgetattr(0)
        attributes[0] |= _IUTF8
        termios.tcsetattr(0, termios.TCSANOW, attributes)
