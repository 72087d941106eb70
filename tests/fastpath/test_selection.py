"""`agentrelay.fastpath` gives one of two implementations, and both have the same names."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentrelay import _fastpath, _fastpath_py, fastpath

ROOT = Path(__file__).parent.parent.parent

WITHOUT_COMPILED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "agentrelay._fastpath":
            raise ModuleNotFoundError("No module named 'agentrelay._fastpath'", name=name)

sys.meta_path.insert(0, Missing())
"""


def run(code: str, pure: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "AGENTRELAY_PURE"}
    if pure is not None:
        env["AGENTRELAY_PURE"] = pure
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(("pure", "compiled"), [(None, True), ("0", True), ("1", False)])
def test_the_environment_chooses(pure: str | None, compiled: bool) -> None:
    done = run(
        "from agentrelay import fastpath; print(fastpath.COMPILED, fastpath.ByteRing.__module__)", pure
    )
    module = "agentrelay._fastpath" if compiled else "agentrelay._fastpath_py"
    assert done.stdout.split() == [str(compiled), module], done.stderr


def test_a_missing_compiled_module_is_told_and_not_replaced() -> None:
    done = run(WITHOUT_COMPILED + "import agentrelay.fastpath", None)
    assert done.returncode != 0
    assert "ImportError: agentrelay._fastpath is not built: run `make build`" in done.stderr


def test_pure_python_needs_no_compiled_module() -> None:
    done = run(WITHOUT_COMPILED + "from agentrelay import fastpath; print(fastpath.COMPILED)", "1")
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("name", fastpath.__all__)
def test_both_have_the_name(name: str) -> None:
    compiled, python = getattr(_fastpath, name), getattr(_fastpath_py, name)
    if isinstance(python, int):
        assert compiled == python or name == "COMPILED"
    elif inspect.isclass(python):
        public = {member for member in dir(python) if not member.startswith("_")}
        assert {member for member in dir(compiled) if not member.startswith("_")} == public
        for member in public:
            assert parameters(getattr(compiled, member)) == parameters(getattr(python, member))
    else:
        assert parameters(compiled) == parameters(python)


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters) if callable(function) else []


def test_everything_in_the_contract_is_exported() -> None:
    stub = ast.parse((ROOT / "agentrelay" / "_fastpath.pyi").read_text())
    names = {node.name for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {ast.unparse(node.target) for node in stub.body if isinstance(node, ast.AnnAssign)}
    assert names == set(fastpath.__all__)
