"""A real browser without a window, driven over a pipe (Chrome DevTools Protocol): what a page says, asks for and shows.

The browser reaches no network: names resolve to nothing. It keeps nothing behind.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
_WAIT_S = 60.0


@dataclass
class Page:
    """One page as the browser shows it."""

    browser: "Browser"
    session: str
    said: list[str] = field(default_factory=list)
    """What went to the console, and what the browser complained of."""
    asked: list[str] = field(default_factory=list)
    """Addresses that the page asked for, itself left out."""

    def show(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Load a file."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        address = path.absolute().as_uri()
        self.call("Page.navigate", url=address)
        self.browser.wait(self, "Page.loadEventFired")
        self.asked = [asked for asked in self.asked if asked != address]

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def screenshot(self, *, top: float = 0, height: float | None = None) -> bytes:
        """Return the page, or a part of it, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        return self._data("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return self._data("Page.printToPDF", printBackground=False, preferCSSPageSize=True)

    def accessible(self) -> list[dict[str, Any]]:
        """Return what a screen reader is told, in order."""
        nodes: list[dict[str, Any]] = self.call("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node.get("ignored")]

    def call(self, method: str, **params: Any) -> Any:
        """Ask the browser for something of this page."""
        return self.browser.call(method, session=self.session, **params)

    def _data(self, method: str, **params: Any) -> bytes:
        return base64.b64decode(self.call(method, **params)["data"])


class Browser:
    """A running browser."""

    def __init__(self, to: int, back: int) -> None:
        self._to = os.fdopen(to, "wb", buffering=0)
        self._back = os.fdopen(back, "rb")
        self._number = 0
        self._unread = b""
        self._pages: dict[str, Page] = {}
        self._heard: list[tuple[str, str]] = []

    def page(self) -> Page:
        """Open an empty page that notes what it says and asks for."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(browser=self, session=session)
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            page.call(f"{domain}.enable")
        return page

    def call(self, method: str, *, session: str = "", **params: Any) -> Any:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._to.write(json.dumps(message).encode() + b"\0")
        number = self._number
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def wait(self, page: Page, event: str) -> None:
        """Wait for an event of a page since the last time one was waited for."""
        while (page.session, event) not in self._heard:
            self._read()
        self._heard.clear()

    def close(self) -> None:
        """End the browser."""
        self.call("Browser.close")
        self._to.close()
        self._back.close()

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            more = os.read(self._back.fileno(), 1 << 16)
            assert more, "the browser ended"
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        if "method" in answer:
            self._note(answer)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event["method"], event["params"]
        session = event.get("sessionId", "")
        self._heard.append((session, method))
        page = self._pages.get(session)
        if page is None:
            return
        match method:
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                page.said.append(json.dumps(params))
            case "Network.requestWillBeSent":
                page.asked.append(params["request"]["url"])


@contextmanager
def running() -> Iterator[Browser]:
    """Run a browser for the block."""
    with TemporaryDirectory(prefix="replcheck-browser-") as home:
        read_to, to = os.pipe()
        back, write_back = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4.
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{read_to} 4>&{write_back}', *_words(home)],
            pass_fds=(read_to, write_back),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": home, "TZ": "UTC", "LANG": "C.UTF-8"},
        )
        os.close(read_to)
        os.close(write_back)
        browser = Browser(to, back)
        try:
            yield browser
            browser.close()
            process.wait(timeout=_WAIT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _words(home: str) -> list[str]:
    words = [PROGRAM, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={home}/profile", "--disable-gpu"]
    words += ["--no-first-run", "--hide-scrollbars", "--disable-background-networking", "--disable-dev-shm-usage"]
    words += ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-component-update", "--disable-sync"]
    # A browser that runs as root has no sandbox; it only ever opens files of ours.
    return [*words, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
