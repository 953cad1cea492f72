import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import serving

from mbdet.errors import InputError
from mbdet.web.build import PAGE
from mbdet.web.server import Server, find, hosts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder to serve, with secrets beside it and links to them in it."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "page-secret.txt").write_text("secret")
    page = tmp_path / "page"
    (page / "engine").mkdir(parents=True)
    (page / "index.html").write_text("<p>page</p>")
    (page / "engine" / "run.js").write_text("run();")
    (page / "engine" / "run.wasm").write_bytes(b"\0asm")
    (page / "notes.md").write_text("not of the page's types")
    (page / ".npmrc").write_text("token")
    (page / "link.txt").symlink_to(tmp_path / "secret.txt")
    (page / "linked").symlink_to(tmp_path)
    return page


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    with serving(folder) as url:
        yield int(url.rstrip("/").rsplit(":", 1)[1])


def ask(port: int, target: str, method: str = "GET", host: str | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    """Send a request line as it is, which clients would tidy."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.putrequest(method, target, skip_host=True)
        connection.putheader("Host", f"127.0.0.1:{port}" if host is None else host)
        connection.endheaders()
        response = connection.getresponse()
        return response, response.read()


@pytest.mark.parametrize(
    ("target", "content", "kind"),
    [
        ("/", b"<p>page</p>", "text/html; charset=utf-8"),
        ("/index.html?a=b#c", b"<p>page</p>", "text/html; charset=utf-8"),
        ("/engine/run.js", b"run();", "text/javascript; charset=utf-8"),
        ("/engine/run%2Ewasm", b"\0asm", "application/wasm"),
    ],
)
def test_files_are_served_with_their_types(port: int, target: str, content: bytes, kind: str) -> None:
    response, body = ask(port, target)
    assert (response.status, body) == (200, content)
    assert response.headers["Content-Type"] == kind
    head, body = ask(port, target, "HEAD")
    assert (head.status, body, head.headers["Content-Length"]) == (200, b"", str(len(content)))


@pytest.mark.parametrize("target", ["/", "/missing"])
def test_every_answer_isolates_the_page(port: int, target: str) -> None:
    headers = ask(port, target)[0].headers
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["connect-src"] == policy["worker-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"


def test_the_page_says_the_same_to_browsers_elsewhere(port: int) -> None:
    page = re.search(r'http-equiv="Content-Security-Policy"\s+content="(.+?)"', (PAGE / "index.html").read_text())
    assert page is not None
    policy = ask(port, "/")[0].headers["Content-Security-Policy"]
    assert policy == f"{page[1]}; frame-ancestors 'none'"  # which browsers ignore in a page


def test_a_browser_may_go_away(folder: Path, port: int, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "engine" / "run.wasm").write_bytes(bytes(30_000_000))  # more than the sockets hold
    for request in (f"GET /engine/run.wasm HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n", ""):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request.encode())
            if request:
                assert connection.recv(12) == b"HTTP/1.1 200"
            # Closed at once, with what was not read thrown away: a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for _ in range(1000):
        if not [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]:
            break
        time.sleep(0.01)
    else:
        pytest.fail("the connection was not given up")
    assert capfd.readouterr().err == ""
    assert ask(port, "/")[0].status == 200


def test_a_head_reads_no_file(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise AssertionError(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    response, body = ask(port, "/", "HEAD")
    assert (response.status, body, response.headers["Content-Length"]) == (200, b"", "11")


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/engine/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/....//secret.txt",
        "/%252e%252e/secret.txt",
        "//secret.txt",
        "///etc/passwd",
        "/etc/passwd",
        "/../page-secret.txt",
        "/link.txt",
        "/linked/secret.txt",
        "/linked/page/index.html/../../secret.txt",
        "http://127.0.0.1/../secret.txt",
        "../secret.txt",
        "*",
        "/engine",
        "/engine/",
        "/.",
        "/notes.md",
        "/.npmrc",
        "/index.html%00.txt",
        "/%ff",
        "/" + "a" * 5000,
        "//[",
    ],
)
def test_nothing_else_is_served(port: int, target: str) -> None:
    response, body = ask(port, target)
    assert response.status == 404
    assert b"secret" not in body
    assert b"run.js" not in body


def test_a_file_that_cannot_be_read_is_not_there(folder: Path) -> None:
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    assert find(folder.resolve(), "/loop.txt") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(port: int, method: str) -> None:
    assert ask(port, "/index.html", method)[0].status == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", ""])
def test_other_names_are_refused(port: int, host: str) -> None:
    response, body = ask(port, "/", host=host)
    assert response.status == 421
    assert b"<p>page</p>" not in body


def test_browsers_leave_out_the_usual_port() -> None:
    assert hosts(80) == {"127.0.0.1", "localhost", "127.0.0.1:80", "localhost:80"}
    assert hosts(8080) == {"127.0.0.1:8080", "localhost:8080"}


def test_localhost_is_a_name_for_it(port: int) -> None:
    assert ask(port, "/", host=f"localhost:{port}")[0].status == 200


def test_it_listens_on_loopback_alone(folder: Path) -> None:
    with Server(folder, 0) as server:
        assert server.socket.getsockname()[0] == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(ConnectionRefusedError):  # would be answered if it listened everywhere
            socket.create_connection(("127.0.0.2", server.server_port), timeout=5)


@pytest.mark.parametrize("port", [-1, 70000])
def test_impossible_ports(folder: Path, port: int) -> None:
    with pytest.raises(InputError, match=f"port {port}: cannot listen there .*; give another with --port"):
        Server(folder, port)


def test_a_taken_port(folder: Path) -> None:
    with (
        Server(folder, 0) as server,
        pytest.raises(InputError, match=f"port {server.server_port}: cannot listen there"),
    ):
        Server(folder, server.server_port)
