"""WebKit, the engine of Safari, where Debian's packages `webkit2gtk-driver` and `xvfb` are installed.

playwright's own build of it is in no registry of packages, so this speaks WebDriver, W3C's protocol: JSON over HTTP.
(selenium does too, but needs a newer typing_extensions than LiteRT's converter takes: xdsl keeps it below 4.13.)
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


class WebKit:
    """A window of WebKit's own small browser."""

    def __init__(self, server: str) -> None:
        self._session = server
        options = {"binary": str(find_browser()), "args": ["--automation"]}
        capabilities = {"browserName": "MiniBrowser", "webkitgtk:browserOptions": options}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]
        self._session = f"{server}/session/{session}"

    def open(self, url: str) -> None:
        """Go to a page."""
        self._call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """Run JavaScript on the page, and give what it returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def choose(self, path: Path) -> None:
        """Choose a file as the person does who clicks on the button."""
        found = self._call("POST", "/element", {"using": "css selector", "value": "input[type=file]"})
        (element,) = found.values()
        self._call("POST", f"/element/{element}/value", {"text": str(path)})

    def look(self) -> dict[str, Any]:
        """Return what the page says and shows."""
        return self._run_file("look.js")

    def pixels(self, selector: str) -> dict[str, Any]:
        """Return the pixels of a canvas."""
        return self._run_file("pixels.js", selector)

    def wait(self, pattern: str) -> None:
        """Wait until the status matches, for a minute at most."""
        end = time.monotonic() + 60
        while not self.run(f"return /{pattern}/.test(document.getElementById('status').textContent)"):
            assert time.monotonic() < end, self.run("return document.body.innerText")
            time.sleep(0.1)

    def close(self) -> None:
        """Close the window."""
        self._call("DELETE", "")

    def _run_file(self, name: str, *given: str) -> dict[str, Any]:
        result: dict[str, Any] = self.run(f"return ({(_HERE / name).read_text()})({', '.join(map(json.dumps, given))})")
        return result

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._session + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]


def find_browser() -> Path | None:
    """Return the browser that Debian's package of the driver brings."""
    return next(iter(sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))), None)


def missing() -> list[str]:
    """Return what is not installed."""
    names = [name for name in ("WebKitWebDriver", "Xvfb") if shutil.which(name) is None]
    return names if find_browser() else [*names, "MiniBrowser"]


@contextmanager
def opened() -> Iterator[WebKit]:
    """Open a window on a screen that nobody sees."""
    with ExitStack() as started:
        reading, writing = os.pipe()
        with os.fdopen(reading) as pipe:
            with os.fdopen(writing, "w"):
                _start(started, ["Xvfb", "-displayfd", str(writing)], pass_fds=[writing])
            display = pipe.readline().strip()
        assert display, "Xvfb gives no screen"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = os.environ | {
            "DISPLAY": f":{display}",
            "GDK_BACKEND": "x11",
            "WEBKIT_DISABLE_COMPOSITING_MODE": "1",  # there is no GPU
            "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",  # which containers do not allow; all pages here are ours
        }
        _start(started, ["WebKitWebDriver", f"--port={port}"], env=environment)
        _wait_for(port)
        window = WebKit(f"http://127.0.0.1:{port}")
        started.callback(window.close)
        yield window


def _start(started: ExitStack, command: list[str], **options: Any) -> None:
    """Start a program, which is ended with the stack."""
    process = started.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL, **options))
    started.callback(process.terminate)


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("WebKitWebDriver does not answer")
