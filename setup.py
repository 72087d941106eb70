"""Build of the compiled hot path; everything else about the package is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [Extension("agentrelay._fastpath", ["agentrelay/_fastpath.pyx"])],
        language_level=3,
    )
)
