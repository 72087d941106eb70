import gzip
import os
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from agentrelay.hq.http import make_app
from agentrelay.hq.http.ui import Ui
from tests.hq.http.conftest import FakeHq, client_of, problem_of, render

FILES = {
    "index.html": b"<!doctype html><title>AgentRelay</title>",
    "favicon.svg": b"<svg/>",
    "assets/index-Ab12.js": b"console.log(1)" * 100,
    "assets/index-Ab12.js.br": b"brotli",
    "assets/index-Ab12.js.gz": b"gzip",
    "assets/font.woff2": b"\x00woff",
    "manifest.webmanifest": b"{}",
    "strange.xyz": b"?",
}


@pytest.fixture
def ui_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "ui"
    for name, content in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    (tmp_path / "secret.txt").write_text("secret")
    (directory / "link.txt").symlink_to(tmp_path / "secret.txt")
    return directory


@pytest.mark.parametrize("path", ["/", "/sessions", "/session/01", "/a/b/c", "/index.html", "/docs", "/API"])
async def test_every_path_of_the_app_is_its_page(nobody: httpx.AsyncClient, path: str) -> None:
    answer = await nobody.get(path)
    assert (answer.status_code, answer.content) == (200, FILES["index.html"])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "media_type", "cache_control"),
    [
        ("/assets/index-Ab12.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        ("/assets/font.woff2", "font/woff2", "public, max-age=31536000, immutable"),
        ("/favicon.svg", "image/svg+xml", "no-cache"),
        ("/manifest.webmanifest", "application/manifest+json", "no-cache"),
        ("/strange.xyz", "application/octet-stream", "no-cache"),
    ],
)
async def test_a_file_is_served_as_what_it_is(
    nobody: httpx.AsyncClient, path: str, media_type: str, cache_control: str
) -> None:
    answer = await nobody.get(path, headers={"accept-encoding": "identity"})
    assert (answer.status_code, answer.content) == (200, FILES[path[1:]])
    assert answer.headers["content-type"] == media_type
    assert answer.headers["cache-control"] == cache_control
    head = await nobody.head(path, headers={"accept-encoding": "identity"})
    assert head.status_code == 200
    assert head.headers["content-length"] == str(len(FILES[path[1:]]))


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0.0", None),
        ("zstd", None),
        ("", None),
    ],
)
async def test_a_packed_file_is_served_to_who_can_unpack_it(
    app: Starlette, accepted: str, encoding: str | None
) -> None:
    async with (
        client_of(app) as client,
        client.stream("GET", "/assets/index-Ab12.js", headers={"accept-encoding": accepted}) as answer,
    ):
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
        assert answer.headers.get("content-encoding") == encoding
        assert answer.headers["vary"] == "accept-encoding"
        suffix = {"br": ".br", "gzip": ".gz", None: ""}[encoding]
        assert raw == FILES["assets/index-Ab12.js" + suffix]


def test_a_text_that_was_not_packed_is_packed_once(ui_dir: Path) -> None:
    text = "body { color: red }\n" * 1000
    (ui_dir / "assets" / "x.css").write_text(text)
    (ui_dir / "small.css").write_text("x")
    (ui_dir / "assets" / "big.woff2").write_bytes(b"x" * 10_000)
    files = Ui(ui_dir)._files
    packed = {name: file.content["gzip"] for name, file in files.items() if "gzip" in file.content}
    assert sorted(packed) == ["/assets/index-Ab12.js", "/assets/x.css"]
    assert len(packed["/assets/x.css"]) < 200
    assert gzip.decompress(packed["/assets/x.css"]).decode() == text


async def test_what_the_browser_has_is_not_sent_again(nobody: httpx.AsyncClient) -> None:
    first = await nobody.get("/")
    again = await nobody.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (await nobody.get("/", headers={"if-none-match": '"x"'})).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/link.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/index-Ab12.js.gz",
        "/assets/missing.js",
        "/secret.txt%00",
    ],
)
async def test_nothing_else_is_served(nobody: httpx.AsyncClient, admin: httpx.AsyncClient, path: str) -> None:
    assert (await nobody.get(path)).status_code == 401
    answer = await admin.get(path)
    assert answer.status_code == 404
    problem_of(answer)


async def test_a_path_of_the_api_is_never_the_page(admin: httpx.AsyncClient) -> None:
    for path in ("/api/nothing", "/api", "/metrics/x", "/health/", "/api/sessions/"):
        answer = await admin.get(path)
        assert answer.status_code == 404
        problem_of(answer)


async def test_writing_to_the_page_is_refused(admin: httpx.AsyncClient) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert (await admin.request(method, "/")).status_code == 404


async def test_a_socket_path_asks_for_a_websocket(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/ws/session/x")
    assert answer.status_code == 426
    assert answer.headers["upgrade"] == "websocket"


async def test_a_ui_that_is_not_built_says_how(hq: FakeHq, tmp_path: Path) -> None:
    directory = tmp_path / "later"
    async with client_of(make_app(hq, render=render, ui=Ui(directory))) as client:
        answer = await client.get("/")
        assert answer.status_code == 200
        assert "make build-web" in answer.text
        assert (await client.get("/assets/x.js")).status_code == 401
        directory.mkdir()
        (directory / "index.html").write_text("built")
        (directory / "x.js").write_text("1")
        assert (await client.get("/")).text == "built"
        assert (await client.get("/x.js")).text == "1"


async def test_a_new_build_is_served_without_a_restart(nobody: httpx.AsyncClient, ui_dir: Path) -> None:
    first = await nobody.get("/")
    (ui_dir / "index.html").write_text("new build")
    (ui_dir / "assets" / "index-Cd34.js").write_text("2")
    os.utime(ui_dir / "index.html", ns=(1, 1))
    second = await nobody.get("/")
    assert second.text == "new build"
    assert second.headers["etag"] != first.headers["etag"]
    assert (await nobody.get("/assets/index-Cd34.js")).text == "2"
