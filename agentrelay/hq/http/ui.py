"""The web UI: built files from `agentrelay/hq/ui/`, held in memory, and one page for every path of the app.

Only what was found in the directory can be served, so no path can lead out of it. A build that is made while
HQ runs is noticed by its new index.html.
"""

import gzip
import hashlib
import logging
import re
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agentrelay.hq.http.problems import problem

log = logging.getLogger("agentrelay.hq.http")

UI_DIR = Path(__file__).parent.parent / "ui"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
_ENCODINGS = {".br": "br", ".gz": "gzip"}

_WORTH_PACKING_BYTES = 1024

_NEVER = re.compile(r";\s*q=0(\.0*)?\s*$", re.IGNORECASE)
_FOREVER = "public, max-age=31536000, immutable"

_NOT_BUILT = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>AgentRelay</title>
<h1>AgentRelay HQ is running</h1>
<p>Its web UI is not built. Run <code>make build-web</code> and load this page again.</p>
</html>
"""


class _File(NamedTuple):
    content: dict[str, bytes]
    """By content encoding; "" is the file itself."""
    media_type: str
    etag: str
    cache_control: str


class Ui:
    """The built UI in `directory`; need not exist."""

    def __init__(self, directory: Path = UI_DIR) -> None:
        self._directory = directory
        self._files: dict[str, _File] = {}
        self._built_at_ns: int | None = None
        self._refresh()

    def has(self, path: str) -> bool:
        """Tell whether `path`, as in a request, names a file of the UI."""
        return path in self._files

    def answer(self, request: Request) -> Response:
        """Answer a GET or HEAD of a file, or of a path of the app, which is always index.html."""
        path = request.url.path
        if path not in self._files:
            if "." in path:
                return problem(404, "There is nothing at this path.")
            self._refresh()
            path = "/index.html"
        file = self._files.get(path)
        if file is None:
            return Response(_NOT_BUILT, media_type=_TYPES[".html"])
        headers = {"cache-control": file.cache_control, "etag": file.etag}
        if len(file.content) > 1:
            headers["vary"] = "accept-encoding"
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        encoding = _choose(request.headers.get("accept-encoding", ""), file)
        if encoding:
            headers["content-encoding"] = encoding
        return Response(file.content[encoding], headers=headers, media_type=file.media_type)

    def _refresh(self) -> None:
        try:
            built_at_ns = (self._directory / "index.html").stat().st_mtime_ns
            if built_at_ns != self._built_at_ns:
                self._files = _load(self._directory)
                self._built_at_ns = built_at_ns
        except FileNotFoundError:
            self._built_at_ns = None
        except OSError as error:
            log.warning("the web UI cannot be read: %s", error)


async def ui_or_problem(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what no route has: the UI, or a problem. The app's default, so that routes come first."""
    request = Request(scope, receive)
    first = scope["path"].removeprefix("/").partition("/")[0]
    if first == "ws":
        answer = problem(
            426, "This path speaks WebSocket.", headers={"upgrade": "websocket", "connection": "upgrade"}
        )
    elif scope["method"] in ("GET", "HEAD") and first not in ("api", "metrics", "openapi.json", "health"):
        ui: Ui = request.app.state.ui
        answer = ui.answer(request)
    else:
        answer = problem(404, "There is nothing at this path.")
    await answer(scope, receive, send)


def _load(directory: Path) -> dict[str, _File]:
    files: dict[str, _File] = {}
    for source in sorted(directory.rglob("*")):
        if not source.is_file() or source.is_symlink() or source.suffix in _ENCODINGS:
            continue
        content = {"": source.read_bytes()}
        for suffix, encoding in _ENCODINGS.items():
            packed = source.with_name(source.name + suffix)
            if packed.is_file():
                content[encoding] = packed.read_bytes()
        path = "/" + source.relative_to(directory).as_posix()
        media_type = _TYPES.get(source.suffix, "application/octet-stream")
        if len(content) == 1 and len(content[""]) >= _WORTH_PACKING_BYTES and media_type.endswith("utf-8"):
            content["gzip"] = gzip.compress(content[""], 6, mtime=0)
        files[path] = _File(
            content=content,
            media_type=media_type,
            etag=f'"{hashlib.sha256(content[""]).hexdigest()[:32]}"',
            # Vite puts a hash of the content into the names below /assets/.
            cache_control=_FOREVER if path.startswith("/assets/") else "no-cache",
        )
    return files


def _choose(accepted: str, file: _File) -> str:
    """Give the best encoding of `file` that an Accept-Encoding header takes; "" for none."""
    parts = (part for part in accepted.split(",") if not _NEVER.search(part))
    wanted = {part.partition(";")[0].strip().lower() for part in parts}
    return next((encoding for encoding in _ENCODINGS.values() if encoding in wanted & set(file.content)), "")
