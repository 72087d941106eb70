"""Test the hot path under AddressSanitizer and UBSan: `python -m bench.sanitize [SECONDS]`.

Builds the extension with `AGENTRELAY_SANITIZE` and `AGENTRELAY_DEBUG` in a copy of the package below
build/asan, so the installed one stays as it is, and runs the tests of the hot path and of endpoints there:
once, and again until the time is over. What hypothesis makes is new each time. Leaks are not looked for: the
interpreter frees nothing at exit.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "asan"
COPIED = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
COPIED_TESTS = ("tests/fastpath", "tests/transport", "tests/vectors")
TESTS = ("tests/fastpath", "tests/transport/test_endpoint.py")
PROFILE = """\
from hypothesis import settings

# Everything takes several times as long here, and each round is to try something else.
settings.register_profile("sanitized", deadline=None, database=None)
"""


def library(name: str) -> str:
    """Give the path of a sanitizer's runtime.

    Raises:
        SystemExit: the compiler has none.
    """
    found = subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not Path(path).is_absolute():
        raise SystemExit(f"the C compiler has no {name}")
    return str(Path(path).resolve())


def main() -> None:
    """Build and test."""
    shutil.rmtree(COPY, ignore_errors=True)
    ignore = shutil.ignore_patterns("*.so", "_fastpath.c", "__pycache__", "ui")
    shutil.copytree(ROOT / "agentrelay", COPY / "agentrelay", ignore=ignore)
    for directory in COPIED_TESTS:
        shutil.copytree(ROOT / directory, COPY / directory, ignore=ignore)
    for name in COPIED:
        shutil.copy(ROOT / name, COPY)
    environment = os.environ | {"AGENTRELAY_DEBUG": "1", "AGENTRELAY_SANITIZE": "address,undefined"}
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(build, cwd=COPY, env=environment, check=True)
    environment = os.environ | {
        "LD_PRELOAD": " ".join([library("libasan.so"), library("libubsan.so")]),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        # Python's own allocator would hide what a block's neighbours are.
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(COPY),
    }
    (COPY / "conftest.py").write_text(PROFILE)
    options = ["-p", "no:cacheprovider", "--hypothesis-profile=sanitized", "--hypothesis-seed"]
    until_s = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else 0.0)
    seed = 0
    while seed == 0 or time.monotonic() < until_s:
        tests = [sys.executable, "-m", "pytest", *options, str(seed), *TESTS]
        code = subprocess.run(tests, cwd=COPY, env=environment, check=False).returncode
        if code:
            sys.exit(code)
        seed += 1
    print(f"{seed} times without a finding")


if __name__ == "__main__":
    main()
