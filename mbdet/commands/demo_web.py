"""Serve the page that runs a model in the browser, or write it into a folder."""

import argparse
import tempfile
import webbrowser
from contextlib import suppress
from pathlib import Path
from threading import Thread

from mbdet.web.build import build
from mbdet.web.server import Server

_PORT = 8765  # always the same, as browsers remember for it that the camera is allowed


def add_options(parser: argparse._ArgumentGroup) -> None:
    """Add the options of the page."""
    parser.add_argument("--port", type=int, help=f"of the page; 0 takes a free one (default: {_PORT})")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="write the page here, to be hosted, and end")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="do not open it")


def run(model: Path, port: int | None, folder: Path | None, *, open_browser: bool) -> None:
    """Serve the page on this machine until interrupted, or write it.

    Args:
        model: An ONNX file exported by mbdet.
        port: Where to serve; 0 takes a free one, None the usual one.
        folder: Where to write the page instead.
        open_browser: Whether to open the page.

    Raises:
        InputError: If the page cannot be made for this model, or the port is taken.
    """
    if folder is not None:
        build(model, folder)
        print(f"page: {folder}/, to be served over https by any web server, as it is")
        return
    with tempfile.TemporaryDirectory() as temporary:
        build(model, Path(temporary))
        with Server(Path(temporary), _PORT if port is None else port) as server:
            print(f"{server.url} (Ctrl+C ends it)", flush=True)
            with suppress(KeyboardInterrupt):
                if open_browser:
                    # Beside the server, as a browser in the terminal returns only when it is closed.
                    Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
                server.serve_forever()
