"""Build backend: setuptools', after seeing to it that the web UI is there to be packed.

The UI in agentrelay/hq/ui is built, not committed, so a wheel made from a fresh clone would otherwise lack
it and nobody would notice before opening a browser. AGENTRELAY_WEB_UI=none leaves it out on purpose: a
machine that is only a runner needs none.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parents[1]
UI_PAGE = Path("agentrelay/hq/ui/index.html")


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build a wheel with the web UI in it (PEP 517)."""
    provide_ui(ROOT)
    # setuptools packs all it finds there, so also what the sources, or the web UI, have no longer.
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """Build a source distribution with the web UI in it; installing from it needs no Node (PEP 517)."""
    provide_ui(ROOT)
    return build_meta.build_sdist(sdist_directory, config_settings)


def provide_ui(root: Path) -> None:
    """Build the web UI of the tree at `root` unless it is there or not wanted.

    Raises:
        SystemExit: it is neither there nor can it be built; the message says what to do.
    """
    if os.environ.get("AGENTRELAY_WEB_UI") == "none" or (root / UI_PAGE).exists():
        return
    if not (root / "web/package-lock.json").exists() or shutil.which("npm") is None:
        raise SystemExit(
            f"The web UI is missing ({UI_PAGE}) and npm is not there to build it: install Node 20 or newer, "
            "or set AGENTRELAY_WEB_UI=none for a package that is only a runner."
        )
    print("Building the web UI", flush=True)
    for arguments in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
        done = subprocess.run(["npm", *arguments], cwd=root / "web", check=False)
        if done.returncode != 0:
            raise SystemExit(f"npm {arguments[0]} failed in web/ (see above), so there is no web UI to pack.")
