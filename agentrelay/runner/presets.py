"""Presets: programs that people start by name, as data (presets.toml), and how this machine has them."""

import glob
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agentrelay.errors import ConfigError

SHELL = "shell"
"""The preset that stands for nothing in particular: the user's login shell."""

_COMMON = "places"
_BUILT_IN = Path(__file__).with_name("presets.toml")


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of presets.toml, which explains the fields."""

    label: str
    find: list[str]
    places: list[str] = []
    arguments: list[str] = []
    note: str = ""
    hidden: bool = False


class Installed(NamedTuple):
    """A preset whose program is on this machine."""

    name: str
    preset: Preset
    path: str

    @property
    def command(self) -> list[str]:
        """What to start."""
        return [self.path, *self.preset.arguments]


def user_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Give the path of the user's own presets, which need not exist."""
    config = environ.get("XDG_CONFIG_HOME", "")
    home = Path(config) if os.path.isabs(config) else Path(os.path.expanduser("~"), ".config")
    return home / "agentrelay" / "presets.toml"


def load_presets(own: Path) -> dict[str, Preset]:
    """Read the built-in presets and the user's own over them, by name.

    Args:
        own: the user's file; it need not exist.

    Raises:
        ConfigError: the user's file cannot be read, or has something in it that no preset has.
    """
    tables = tomllib.loads(_BUILT_IN.read_text())
    for name, table in _read(own).items():
        if name != _COMMON and not isinstance(table, dict):
            raise ConfigError(f"{own}: {name} is not a table; a preset begins with [{name}]")
        tables[name] = table if name == _COMMON else {"label": name, **tables.get(name, {}), **table}
    try:
        common = msgspec.convert(tables.pop(_COMMON), list[str])
        presets = msgspec.convert(tables, dict[str, Preset])
    except msgspec.ValidationError as error:
        raise ConfigError(f"{own}: {error}") from None
    return {
        name: msgspec.structs.replace(preset, places=[*preset.places, *common])
        for name, preset in presets.items()
        if not preset.hidden
    }


def _read(own: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(own.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{own}: {error}") from None


def find_preset(name: str, preset: Preset, environ: Mapping[str, str] = os.environ) -> Installed | None:
    """Find the program of a preset; None if it is not on this machine."""
    on_path = environ.get("PATH", os.defpath).split(os.pathsep)
    for wanted in preset.find:
        if wanted.startswith("$"):
            candidates = [environ.get(wanted[1:], "")]
        elif "/" in wanted:
            candidates = _expand(wanted)
        else:
            candidates = [os.path.join(directory, wanted) for directory in on_path if directory]
            for place in preset.places:
                candidates += _expand(os.path.join(place, wanted))
        for path in candidates:
            if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
                return Installed(name, preset, path)
    return None


def _expand(pattern: str) -> list[str]:
    """Give the paths a pattern stands for, the newest version of something first."""
    path = os.path.expanduser(pattern)
    return sorted(glob.glob(path), key=_by_version, reverse=True) if glob.has_magic(path) else [path]


def _by_version(path: str) -> list[tuple[int, str]]:
    """Give a key that sorts v9 before v22."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


def installed(presets: Mapping[str, Preset], environ: Mapping[str, str] = os.environ) -> list[Installed]:
    """Give the presets whose programs are on this machine, in the order of the files."""
    found = (find_preset(name, preset, environ) for name, preset in presets.items())
    return [one for one in found if one is not None]
