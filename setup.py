"""Build of the compiled hot path; everything else about the package is in pyproject.toml.

Two environment variables choose what is built:

- `AGENTRELAY_DEBUG=1`: the checked build, with assertions and bounds checks, for tests and debuggers.
- `AGENTRELAY_SANITIZE=address,undefined`: that much of gcc's `-fsanitize` on top, for tests.
"""

import os

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

DEBUG = os.environ.get("AGENTRELAY_DEBUG") == "1"
SANITIZE = os.environ.get("AGENTRELAY_SANITIZE", "")

Options.warning_errors = True

compile_args = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
compile_args += ["-O1", "-g", "-UNDEBUG"] if DEBUG else ["-O3"]
link_args = []
if SANITIZE:
    compile_args += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]
    link_args += [f"-fsanitize={SANITIZE}"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                "agentrelay._fastpath",
                ["agentrelay/_fastpath.pyx"],
                define_macros=[] if DEBUG else [("CYTHON_WITHOUT_ASSERTIONS", "1")],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": DEBUG,
            "cdivision": True,
            "auto_pickle": False,
            "autotestdict": False,
        },
        # What is built depends on the variables too, which no file time tells.
        force=True,
    )
)
