"""requirements/*.txt lock what pyproject.toml asks for, and say nothing about this or that machine."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = [Requirement(line) for line in PROJECT["dependencies"]]
DEV = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]


def locked(name: str) -> dict[str, str]:
    """The versions in a lock file, by name as pip compares names."""
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, re.MULTILINE))


@pytest.mark.parametrize(("file", "wanted"), [("run.txt", RUN), ("dev.txt", RUN + DEV)], ids=["run", "dev"])
def test_a_lock_has_every_dependency_within_its_bounds(file: str, wanted: list[Requirement]) -> None:
    versions = locked(file)
    assert [str(one) for one in wanted if not one.specifier.contains(versions.get(one.name, "0"))] == []


def test_the_locks_agree(tmp_path: Path) -> None:
    dev = locked("dev.txt")
    for file in ("build.txt", "run.txt", "runner.txt"):
        versions = locked(file)
        assert versions
        assert versions.items() <= dev.items()


@pytest.mark.parametrize("file", ["build.txt", "run.txt", "runner.txt", "dev.txt"])
def test_a_lock_names_no_registry(file: str) -> None:
    assert not re.findall(r"https?://|--\w*index|find-links", (ROOT / "requirements" / file).read_text())


def test_the_runner_needs_no_more_than_it_says() -> None:
    names = {line for line in (ROOT / "requirements/runner.in").read_text().split("\n") if line.isalpha()}
    assert names <= {one.name for one in RUN}
    assert not set(locked("runner.txt")) & {"uvicorn", "sqlalchemy", "starlette", "pyghostty"}
