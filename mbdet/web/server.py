"""A web server for one folder, on this machine alone."""

from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mbdet.errors import InputError

HOST = "127.0.0.1"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".onnx": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
# Nothing but the folder's own files runs or is loaded. Pictures and videos that the user opens are blobs. The isolation
# (COOP, COEP) is what browsers ask for before they give WebAssembly threads.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self';"
    " style-src 'self'; img-src 'self' blob:; media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Server(ThreadingHTTPServer):
    """Serves the files of a folder.

    Args:
        folder: The folder.
        port: Where to listen; 0 takes a free one.

    Raises:
        InputError: If the port is taken.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder.resolve()
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"port {port}: cannot listen there ({reason}); give another with --port") from None

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "mbdet", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def handle(self) -> None:
        """Answer until the browser closes the connection, which it may do in the middle of an answer."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if self.headers.get("Host") not in hosts(self.server.server_port):
            # Else any web site whose name is made to point here could read the folder.
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        path = find(self.server.folder, self.path)
        try:
            if path is None:
                raise FileNotFoundError
            content = path.read_bytes() if with_body else b""
            size = len(content) if with_body else path.stat().st_size
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _TYPES[path.suffix])
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        """Send the headers that every answer has."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing about single requests."""


def hosts(port: int) -> set[str]:
    """Return how browsers name this server in their requests; they leave out the port that is usual for http."""
    names = (HOST, "localhost")
    return {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())


def find(folder: Path, target: str) -> Path | None:
    """Return the file that a request asks for.

    Args:
        folder: What is served, without symbolic links in it.
        target: The request's path and query.

    Returns:
        A file within the folder, of one of the page's types; None where there is no such one.
    """
    try:
        name = unquote(urlsplit(target).path, errors="strict")
        path = (folder / (name.lstrip("/") or "index.html")).resolve()
        served = path.is_relative_to(folder) and path.suffix in _TYPES and path.is_file()
    except (ValueError, OSError, RuntimeError):  # no text, a null byte, a name that is too long, links in a circle
        return None
    return path if served else None
