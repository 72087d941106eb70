"""Process groups: what is signalled when a program is, so that what it started hears it too.

The keeper imports this module: stdlib only.
"""

import os
from collections.abc import Callable, Iterable


def group_exists(group: int) -> bool:
    """Tell whether any process is in a group. Once none is, its number may come to mean another."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it took another user's rights: it is there, though we can do nothing about it
    return True


def signal_groups(groups: Iterable[int], number: int, complain: Callable[[str], object]) -> None:
    """Send a signal to every process of some groups; those that are gone are none.

    Args:
        groups: numbers of process groups.
        number: the signal.
        complain: is told, in a sentence, of a group that may not be signalled.
    """
    for group in groups:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            pass
        except PermissionError as error:
            complain(f"signal {number} to process group {group}: {error.strerror}")
