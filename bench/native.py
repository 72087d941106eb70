"""The benchmarks' C programs, compiled on demand."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"


def program(name: str) -> str:
    """Give the path of the program made from `bench/<name>.c`, compiled anew where its source is newer.

    Raises:
        SystemExit: there is no C compiler, or it refuses.
    """
    source, made = HERE / f"{name}.c", BUILD / name
    if made.exists() and made.stat().st_mtime >= source.stat().st_mtime:
        return str(made)
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("the benchmarks need a C compiler, cc")
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(made), str(source)]
    if subprocess.run([*command, "-lutil", "-lpthread"], check=False).returncode != 0:
        raise SystemExit(f"{source} does not compile")
    return str(made)
