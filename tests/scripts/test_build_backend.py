"""A package is never built without the web UI by accident."""

from pathlib import Path

import pytest

from scripts import build_backend

PAGE = "agentrelay/hq/ui/index.html"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree, on a machine with nothing but a stand-in for npm that builds a page and takes notes."""
    monkeypatch.delenv("AGENTRELAY_WEB_UI", raising=False)
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin/npm"
    npm.write_text(
        "#!/bin/sh\n"
        'echo "$1 in $PWD" >> npm.log\n'
        f'[ "$1" = ci ] || {{ /bin/mkdir -p ../agentrelay/hq/ui; echo built > ../{PAGE}; }}\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "web").mkdir()
    (tmp_path / "web/package-lock.json").touch()
    return tmp_path


def test_builds_a_missing_ui_with_npm(tree: Path) -> None:
    build_backend.provide_ui(tree)
    assert (tree / PAGE).read_text() == "built\n"
    assert (tree / "web/npm.log").read_text() == f"ci in {tree}/web\nrun in {tree}/web\n"


def test_takes_a_ui_that_is_there(tree: Path) -> None:
    (tree / PAGE).parent.mkdir(parents=True)
    (tree / PAGE).write_text("mine")
    build_backend.provide_ui(tree)
    assert (tree / PAGE).read_text() == "mine"


def test_leaves_it_out_where_it_is_not_wanted(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTRELAY_WEB_UI", "none")
    build_backend.provide_ui(tree)
    assert not (tree / PAGE).exists()


def test_says_what_to_install_where_it_cannot_be_built(tree: Path) -> None:
    (tree / "bin/npm").unlink()
    with pytest.raises(SystemExit, match=r"The web UI is missing .* install Node 20"):
        build_backend.provide_ui(tree)


def test_a_wheel_gets_nothing_of_an_earlier_build(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "build/lib/agentrelay/hq/ui").mkdir(parents=True)
    monkeypatch.setenv("AGENTRELAY_WEB_UI", "none")
    monkeypatch.setattr(build_backend, "ROOT", tree)
    monkeypatch.setattr(
        "setuptools.build_meta.build_wheel", lambda *_: "kept" if (tree / "build").exists() else "fresh"
    )
    assert build_backend.build_wheel(str(tree)) == "fresh"


def test_says_that_npm_failed(tree: Path) -> None:
    (tree / "bin/npm").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SystemExit, match=r"npm ci failed in web/"):
        build_backend.provide_ui(tree)
