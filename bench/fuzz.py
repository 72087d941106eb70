"""Feed the hot path arbitrary bytes: `python -m bench.fuzz [TARGET] [libFuzzer options]`.

- `frames`: frames of a buffer are scanned and unmasked;
- `mux`: a link's bytes, whatever they are, go to one stream with a limit and a skip;
- `streams`: whole frames of several streams, which come and go, with limits and skips, arrive in pieces;
- `endpoint`: a peer's bytes go to an endpoint, whole and in pieces.

Both implementations take the same bytes and have to say the same; a difference is a crash. Needs `atheris`.
What it finds is left as `crash-*` in the current directory, to be given as argument for a single run. Without
options it stops after a million runs or a minute.
"""

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from agentrelay import _fastpath

STREAM = 1
STREAMS = 4
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


class Link:
    """One receiver with several streams, told what to do four bytes at a time."""

    def __init__(self, module: ModuleType, masked: bool) -> None:
        self._module = module
        self._receiver = module.MuxReceiver(masked=masked, max_payload_bytes=MAX_PAYLOAD_BYTES)
        self._mask = 0x37FA213D if masked else 0
        self._rings = [module.ByteRing(RING_BYTES) for _ in range(STREAMS)]
        self._waiting = bytearray()
        self.said: list[object] = []

    def do(self, what: int, stream: int, size: int) -> None:
        """Do one thing to the stream; a frame only waits until `_receive`."""
        ring = self._rings[stream]
        match what & 7:
            case 0:
                self.said.append(outcome(self._receiver.open, stream, ring, stream))
            case 1:
                self.said.append(outcome(self._receiver.close, stream))
            case 2:
                self.said.append(outcome(self._receiver.set_limit, stream, ring.head + size))
            case 3:
                self.said.append(outcome(self._receiver.skip, stream, size))
            case 4:
                self._receive(size)
            case 5:
                ring.keep = ring.base + min(size, ring.head - ring.base) if size & 1 else self._module.FREE
            case _:
                self._pack(what >> 3, stream, size)

    def _pack(self, odd: int, stream: int, size: int) -> None:
        kind = 4 if odd == 1 else 1
        payload = bytearray([kind, 0, odd == 2, 0, 0, 0, 0, stream])
        payload += bytes((size + at) & 255 for at in range(size % MAX_PAYLOAD_BYTES))
        header = bytearray(self._module.frame_header(len(payload)))
        if self._mask:
            self._module.unmask(payload, 0, len(payload), self._mask)
            header[1] |= 0x80
            header += self._mask.to_bytes(4)
        self._waiting += header + payload

    def _receive(self, held_back: int) -> None:
        end = max(0, len(self._waiting) - held_back)
        pos = 0
        while True:
            pos, status = self._receiver.receive(self._waiting, pos, end)
            self.said.append((pos, status))
            extent = self._module.frame_extent(self._waiting, pos, end)
            if status == self._module.MORE or not 0 < extent <= end - pos:
                break
            pos += extent  # refused: what an owner does not want it passes over
        del self._waiting[:pos]

    def end(self) -> object:
        """Give everything that can be seen of it."""
        self._receive(0)
        contents = []
        for ring in self._rings:
            with ring.view(ring.base, ring.head) as view:
                contents.append((ring.base, bytes(view)))
            ring.close()
        touched = sorted(self._receiver.take_touched())
        return self.said, touched, self._receiver.frames, self._receiver.output_bytes, contents


def streams(data: bytes) -> None:
    """Do arbitrary things to a link of several streams."""
    masked = bool(data[:1] and data[0] & 1)
    links = [Link(module, masked) for module in _modules]
    for link in links:
        for stream in range(STREAMS - 1):
            link.do(0, stream, 0)
        for at in range(1, len(data) - 3, 4):
            what, stream, high, low = data[at : at + 4]
            link.do(what, stream % STREAMS, high << 8 | low)
    compiled, twin = (link.end() for link in links)
    assert compiled == twin, f"{compiled} compiled, {twin} in Python"


@contextlib.contextmanager
def endpoint_on(module: ModuleType) -> Iterator[None]:
    """Let endpoints use one implementation."""
    endpoint: Any = importlib.import_module("agentrelay.transport.endpoint")
    before, endpoint.fastpath = endpoint.fastpath, module
    try:
        yield
    finally:
        endpoint.fastpath = before


def endpoint(data: bytes) -> None:
    """Let a peer's bytes arrive at once and in pieces of a size; what is heard must be the same."""
    if len(data) < 3:
        return
    fakes = importlib.import_module("tests.transport.fakes")
    masked, size, data = bool(data[0] & 1), data[1] % 64 + 1, data[2:]
    heard = []
    for module in _modules:
        for step in (len(data), size):
            with endpoint_on(module):
                wire = fakes.Wire(masked=masked)
                for at in range(0, len(data), step):
                    wire.feed(data[at : at + step])
                    wire.loop.advance(0)
                heard.append((wire.heard.events, wire.close_code(), wire.endpoint.open))
    assert all(each == heard[0] for each in heard), f"{heard}"


TARGETS = {"frames": frames, "mux": mux, "streams": streams, "endpoint": endpoint}

INSTRUMENTED = ["agentrelay._fastpath_py", "agentrelay.transport.endpoint", "websockets"]


def main() -> None:
    """Fuzz from the command line."""
    atheris: Any = importlib.import_module("atheris")
    logging.disable()
    with atheris.instrument_imports(include=INSTRUMENTED):
        _modules.append(importlib.import_module("agentrelay._fastpath_py"))
        importlib.import_module("tests.transport.fakes")
    name = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in TARGETS else "frames"
    options = sys.argv if len(sys.argv) > 1 else [*sys.argv, "-runs=1000000", "-max_total_time=60"]
    atheris.Setup(options, atheris.instrument_func(TARGETS[name]))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
