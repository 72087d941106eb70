"""scripts/install_chromium.sh prints a browser's path, installs one as root, or says what is missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[2] / "scripts/install_chromium.sh"


class Machine:
    """A PATH with nothing but a shell, and what a test adds to it."""

    def __init__(self, path: Path, *, root: bool) -> None:
        self.path = path
        (path / "sh").symlink_to(shutil.which("sh") or "sh")
        self.add("id", f"echo {0 if root else 1000}")

    def add(self, name: str, script: str = "exit 0") -> Path:
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.path / name).chmod(0o755)
        return self.path / name

    def install(self, **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["sh", INSTALL],
            env={"PATH": str(self.path), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


def test_takes_the_one_that_chromium_names(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False)
    machine.add("chromium")
    mine = machine.add("mine")
    assert machine.install(CHROMIUM=str(mine)) == (0, f"{mine}\n", "")


def test_a_wrong_chromium_is_not_replaced_by_another(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=True)
    machine.add("chromium")
    assert machine.install(CHROMIUM="/nowhere") == (1, "", "CHROMIUM=/nowhere is not a program.\n")


@pytest.mark.parametrize("name", ["chromium", "google-chrome"])
def test_finds_an_installed_one(tmp_path: Path, name: str) -> None:
    machine = Machine(tmp_path, root=False)
    path = machine.add(name)
    assert machine.install() == (0, f"{path}\n", "")


def test_root_gets_it_installed(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=True)
    chmod = shutil.which("chmod")
    installed = tmp_path / "chromium"
    machine.add(
        "apt-get",
        f'case "$*" in *install*chromium*) echo "#!/bin/sh" > {installed}; {chmod} +x {installed} ;; esac',
    )
    status, out, err = machine.install()
    assert (status, out) == (0, f"{installed}\n")
    assert err == "== installing chromium\n"


def test_fails_where_it_cannot_be_installed(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=True)
    machine.add("apt-get", "exit 100")
    status, out, err = machine.install()
    assert (status, out) == (1, "")
    assert err.endswith("Chromium is missing and apt-get could not install it, see above.\n")


def test_others_are_told_what_to_install(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False)
    machine.add("apt-get")
    assert machine.install() == (
        1,
        "",
        "Missing: Chromium, for the browser tests. "
        "Install with: apt install chromium (or CHROMIUM=/path/to/it)\n",
    )
