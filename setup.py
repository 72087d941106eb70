"""Build of the compiled hot path; everything else about the package is in pyproject.toml.

Two environment variables choose what is built:

- `AGENTRELAY_DEBUG=1`: the checked build for tests and debuggers, with assertions and bounds checks.
- `AGENTRELAY_SANITIZE=address,undefined`: any of gcc's `-fsanitize`, on top of either. Python itself is not
  built with it, so the sanitizer's library has to be preloaded.
"""

import os

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

DEBUG = os.environ.get("AGENTRELAY_DEBUG") == "1"
STRICT = os.environ.get("AGENTRELAY_STRICT") == "1"
SANITIZE = os.environ.get("AGENTRELAY_SANITIZE", "")

Options.warning_errors = True

compile_args = ["-std=c11", "-Wall", "-Wextra"]
if STRICT:
    # Not for everybody: the next compiler's new warning should not break an installation.
    compile_args += ["-Werror"]
link_args = []
if DEBUG:
    compile_args += ["-O1", "-g", "-UNDEBUG"]
else:
    # Cython leaves the temporaries of assertions behind; the checked build uses them and warns of all others.
    compile_args += ["-O3", "-Wno-unused-variable"]
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
            # Names that nothing uses and the contract does not have.
            "auto_pickle": False,
            "autotestdict": False,
        },
        # What is built depends on the variables too, which the times of files do not tell.
        force=True,
    )
)
