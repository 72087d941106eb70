"""The limit on the disk space of all logs together, and whose output goes first when it is passed."""

import logging
import threading

from agentrelay.hq.log.session_log import SessionLog

logger = logging.getLogger(__name__)


class LogBudget:
    """Keeps all logs together under a limit.

    Ended sessions go first, the one that ended longest ago before all others, down to their END; then the
    oldest segments of live sessions, except the one that each is writing. `add` and `remove` may be called
    from any thread, `enforce` only from the one that appends.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._lock = threading.Lock()
        self._logs: dict[SessionLog, None] = {}

    def add(self, log: SessionLog) -> None:
        """Count this log in; harmless if it is."""
        with self._lock:
            self._logs[log] = None

    def remove(self, log: SessionLog) -> None:
        """Count this log no more; harmless if it is not."""
        with self._lock:
            self._logs.pop(log, None)

    @property
    def used_bytes(self) -> int:
        """Length of all segment files."""
        with self._lock:
            return sum(log.disk_bytes for log in self._logs)

    def enforce(self) -> None:
        """Delete segments until the logs are within the limit or nothing more may go."""
        surplus = self.used_bytes - self.total_bytes
        if surplus <= 0:
            return
        with self._lock:
            logs = list(self._logs)
        ended = [(log.ended.time_us, log.session_id, log) for log in logs if log.ended]
        for _, _, log in sorted(ended, key=lambda entry: entry[:2]):
            while surplus > 0 and (freed := _delete_oldest(log)):
                surplus -= freed
        live = [log for log in logs if not log.ended]
        while surplus > 0 and live:
            oldest = min(live, key=lambda log: log.oldest_us)
            freed = _delete_oldest(oldest)
            surplus -= freed
            if not freed:
                live.remove(oldest)


def _delete_oldest(log: SessionLog) -> int:
    before = log.disk_bytes
    try:
        log.delete_oldest()
    except OSError as error:  # its directory is being deleted, or the disk refuses: others may still go
        logger.warning("cannot delete old output in %s: %s", log.directory, error)
        return 0
    return before - log.disk_bytes
