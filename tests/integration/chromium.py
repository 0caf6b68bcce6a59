"""A real browser over its DevTools protocol: as much of it as the tests of pages need."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

# Generous: a browser that starts cold on a busy machine takes a while.
PATIENCE = 120.0

# The lowest contrast of any text with what is behind it, and that text. Transparent colors are blended.
CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = colors => {
    for (const color of ["white", ...colors]) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = colors => paint(colors).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    const colors = [];
    for (; element; element = element.parentElement) colors.unshift(getComputedStyle(element).backgroundColor);
    return colors;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let worst = [99, ""];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element), grounds = behind(element);
    const [a, b] = [[...grounds, element.closest("svg") ? style.fill : style.color], grounds].map(light);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < worst[0]) worst = [contrast, text];
  }
  return worst;
})()"""


def find_chromium() -> str | None:
    """Return the browser's program, from ``$CHROMIUM`` or the path."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)


class Chromium:
    """A headless browser with a profile of its own; an async context manager.

    Args:
        program: The path of the browser.
        arguments: Further arguments of its command line.
    """

    def __init__(self, program: str, *, arguments: Sequence[str] = ()) -> None:
        self._program = program
        self._arguments = arguments
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def __aenter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(prefix="distillery-test-", ignore_cleanup_errors=True)
        self._process = await asyncio.create_subprocess_exec(
            self._program,
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._profile.name}",
            "--no-first-run",
            "--disable-gpu",
            "--hide-scrollbars",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        url = await asyncio.wait_for(self._url(), PATIENCE)
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(url, max_msg_size=0)
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.cancel()
        self._drain.cancel()
        await self._session.close()
        self._process.kill()
        await self._process.wait()
        self._profile.cleanup()

    async def _url(self) -> str:
        assert self._process.stderr is not None
        output = b""
        async for line in self._process.stderr:
            output += line
            if found := re.search(rb"DevTools listening on (ws://\S+)", line):
                self._drain = asyncio.create_task(self._process.stderr.read())
                return found[1].decode()
        raise RuntimeError(f"the browser ended: {output.decode(errors='replace')}")

    async def _listen(self) -> None:
        async for message in self._socket:
            payload = message.json()
            if "id" in payload:
                self._answers.pop(payload["id"]).set_result(payload)
            elif page := self._pages.get(payload.get("sessionId", "")):
                page.hear(payload["method"], payload["params"])

    async def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        await self._socket.send_json(command)
        answer = await asyncio.wait_for(self._answers[number], PATIENCE)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    async def open(self, at: Path | str, *, width: int = 1280, dark: bool = False) -> Page:
        """Load a file or a URL in a new tab, under conditions."""
        target = (await self.ask("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.ask(f"{domain}.enable")
        mobile = width < 600
        await page.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await page.ask("Emulation.setEmulatedMedia", features=[scheme])
        await page.ask("Page.navigate", url=at if isinstance(at, str) else at.as_uri())
        await asyncio.wait_for(page.loaded.wait(), PATIENCE)
        return page


class Page:
    """A tab: what it asked for, what it complained of, and its document."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session
        self.loaded = asyncio.Event()
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def hear(self, method: str, parameters: dict[str, Any]) -> None:
        """Note an event."""
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(str(parameters))

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol, for this tab."""
        return await self._browser.ask(method, self._session, **parameters)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def press(self, key: str) -> None:
        """Press a key on the keyboard."""
        number, text = _KEYS[key]
        for kind in ("keyDown", "keyUp"):
            await self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=number, text=text
            )

    async def write(self, text: str) -> None:
        """Text into the element that has the focus, as by a keyboard."""
        await self.ask("Input.insertText", text=text)

    async def wait_for(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, as soon as it is truthy."""
        loop = f"for (;;) {{ const v = {expression}; if (v) return v; await new Promise(requestAnimationFrame); }}"
        return await self.evaluate(f"(async () => {{ {loop} }})()")

    async def screenshot(self, path: Path) -> None:
        """Return the whole page as PNG."""
        size = (await self.ask("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = await self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode((await self.ask("Page.printToPDF", printBackground=True))["data"])


_KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}
