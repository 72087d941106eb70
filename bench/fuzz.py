"""Feed the hot path arbitrary bytes: `python -m bench.fuzz [frames|mux] [libFuzzer options]`.

Both implementations take the same bytes and have to say the same; a difference is a crash. Needs `atheris`.
What it finds is left as `crash-*` in the current directory, to be given as argument for a single run. Without
options it stops after a million runs or a minute.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

from agentrelay import _fastpath

STREAM = 1
MAX_PAYLOAD_BYTES = 4096
RING_BYTES = 65_536


_modules: list[ModuleType] = [_fastpath]
"""Both implementations; the twin is imported under the fuzzer's eyes, which see only Python."""


def outcome(function: Any, *arguments: object) -> object:
    """Give what a call returns, or the type of what it raises."""
    try:
        return function(*arguments)
    except (ValueError, IndexError, OverflowError, BufferError, KeyError) as error:
        return type(error).__name__


def same(name: str, *arguments: object) -> object:
    """Call both implementations; gives what they agree on."""
    compiled, twin = (outcome(getattr(module, name), *arguments) for module in _modules)
    if compiled != twin:
        raise AssertionError(f"{name}{arguments}: {compiled} compiled, {twin} in Python")
    return compiled


def frames(data: bytes) -> None:
    """Scan frames one behind the other, as an endpoint does."""
    masked = bool(data[:1] and data[0] & 1)
    pos = 1
    while pos < len(data):
        extent = same("frame_extent", data, pos, len(data))
        same("frame_opening", data, pos)
        status = same("scan_frame", data, pos, len(data), masked, MAX_PAYLOAD_BYTES)
        assert isinstance(status, tuple)
        assert isinstance(extent, int)
        kind, start, stop, mask = status
        if kind == _fastpath.FAST:
            buffers = []
            for module in _modules:
                buffers.append(bytearray(data))
                module.unmask(buffers[-1], start, stop, mask)
            assert buffers[0] == buffers[1]
            assert stop == pos + extent
        if extent <= 0:
            return
        pos += extent


def mux(data: bytes) -> None:
    """Receive a link's bytes in pieces, into a ring with a limit, skipping some."""
    if len(data) < 4:
        return
    first, limit, skip, data = data[0] or 1, data[1] << 4, data[2], data[3:]
    states = []
    for module in _modules:
        receiver = module.MuxReceiver(masked=bool(skip & 1), max_payload_bytes=MAX_PAYLOAD_BYTES)
        ring = module.ByteRing(RING_BYTES)
        receiver.open(STREAM, ring, "tag")
        receiver.set_limit(STREAM, limit)
        receiver.skip(STREAM, skip)
        said = []
        pos = 0
        for end in (min(first, len(data)), len(data)):
            pos, status = receiver.receive(bytearray(data), pos, end)
            said.append((pos, status))
        with ring.view(ring.base, ring.head) as view:
            content = bytes(view)
        states.append((said, receiver.take_touched(), receiver.frames, receiver.output_bytes, content))
        ring.close()
    assert states[0] == states[1], f"{states[0]} compiled, {states[1]} in Python"


TARGETS = {"frames": frames, "mux": mux}


def main() -> None:
    """Fuzz from the command line."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["agentrelay._fastpath_py"]):
        _modules.append(importlib.import_module("agentrelay._fastpath_py"))
    name = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in TARGETS else "frames"
    options = sys.argv if len(sys.argv) > 1 else [*sys.argv, "-runs=1000000", "-max_total_time=60"]
    atheris.Setup(options, atheris.instrument_func(TARGETS[name]))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
