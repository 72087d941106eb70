"""Keyframe files: what is read is what was written, or nothing."""

from pathlib import Path

import pytest

from agentrelay.errors import LogError
from agentrelay.hq.log.keyframe import NAME, Keyframe, read_keyframe, write_keyframe

KEYFRAME = Keyframe(offset=(1 << 40) + 7, rows=24, cols=80, data=b"\x1b[2J" + b"picture " * 500)


def test_a_keyframe_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_keyframe(tmp_path, "e1", KEYFRAME)
    assert read_keyframe(tmp_path, "e1") == KEYFRAME
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / NAME).stat().st_size < len(KEYFRAME.data) / 5


def test_the_newest_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    newer = KEYFRAME._replace(offset=KEYFRAME.offset + 1, data=b"")
    write_keyframe(tmp_path, "e1", KEYFRAME)
    write_keyframe(tmp_path, "e1", newer)
    assert read_keyframe(tmp_path, "e1") == newer
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_there_is_none_of_another_epoch_or_where_none_was_written(tmp_path: Path) -> None:
    assert read_keyframe(tmp_path / "nowhere", "e1") is None
    assert read_keyframe(tmp_path, "e1") is None
    write_keyframe(tmp_path, "e1", KEYFRAME)
    assert read_keyframe(tmp_path, "e2") is None


def test_a_torn_or_damaged_file_is_none(tmp_path: Path) -> None:
    write_keyframe(tmp_path, "e1", KEYFRAME)
    whole = (tmp_path / NAME).read_bytes()
    for n_bytes in range(len(whole)):
        (tmp_path / NAME).write_bytes(whole[:n_bytes])
        assert read_keyframe(tmp_path, "e1") is None, n_bytes
    for at in range(len(whole)):
        (tmp_path / NAME).write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        assert read_keyframe(tmp_path, "e1") is None, at
    (tmp_path / NAME).write_bytes(whole + b"more")
    assert read_keyframe(tmp_path, "e1") is None


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="keyframe"):
        write_keyframe(tmp_path / "nowhere", "e1", KEYFRAME)
