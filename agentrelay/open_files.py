"""Open files: how many a process may have at once.

A shell and systemd allow 1,024, because select(2) cannot count further. A session is two open files of a
runner and a viewer is one of HQ, so both take as many as they may have; programs that a runner starts get
back what was usual.
"""

import resource

MANY = 65_536

USUAL, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
"""What this process was started with; -1: no limit."""


def allow_many() -> None:
    """Allow this process `MANY` open files, or as many as the system lets it have."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY if most == resource.RLIM_INFINITY else min(MANY, most)
    if resource.RLIM_INFINITY != usual < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def restore(usual: int) -> None:
    """Allow this process as many as `usual`, which another one was started with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or 0 <= usual <= most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
