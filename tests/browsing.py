"""A person at a console's page: Debian's Chromium, driven by Playwright, and what it must never see.

Whatever a page does is watched: no error on its console, no violation of its security policy, no request to another origin.
:meth:`Visit.violations` asks axe-core, which is given to each page beside its policy, as a browser's own tools are.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request

CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--renderer-process-limit=1",  # each tab would have a process of its own, and a spare one would wait for the next
]
WIDE, NARROW = 1280, 640
"""Widths in CSS pixels: a usual window, and the same at 200 % zoom."""
PATIENCE_MS = 60_000

_TELL = """addEventListener("securitypolicyviolation", event => console.error(
  `policy violated: ${event.violatedDirective} by ${event.blockedURI} ${event.sample} (${event.sourceFile})`))"""
_TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  const own = document.documentElement.lang;
  const language = element => element.closest("[lang]").lang;
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!["CODE", "SCRIPT", "STYLE", "NOSCRIPT"].includes(parent.tagName) && language(parent) === own)
      found.push(walker.currentNode.textContent);
  }
  for (const element of document.querySelectorAll("[aria-label], [title], [placeholder]"))
    for (const name of ["aria-label", "title", "placeholder"])
      if (element.hasAttribute(name) && language(element) === own) found.push(element.getAttribute(name));
  return found.map(text => text.replace(/\\s+/g, " ").trim()).filter(text => text);
}"""


async def launch(play: Playwright) -> Browser:
    """Start Chromium; it ends with this process, whatever ends that."""
    return await play.chromium.launch(executable_path=CHROMIUM, args=QUIET, timeout=PATIENCE_MS)


def axe() -> str:
    """Return axe-core."""
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


class Visit:
    """One person's tab at one console; ``wrong`` collects what must not happen."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.wrong: list[str] = []
        self.allowed: tuple[str, ...] = ()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"script failed: {error}"))
        page.on("request", self._asked)

    async def go(self, path: str) -> int:
        """Open an address of the console; return the status of the answer."""
        answer = await self.page.goto(self.origin + path, wait_until="load")
        return answer.status if answer else 0

    async def sign_in(self, name: str, password: str) -> None:
        """Sign in with the form."""
        await self.go("/sign-in")
        await self.page.locator("#name").fill(name)
        await self.page.locator("#password").fill(password)
        await self.page.keyboard.press("Enter")
        await self.page.locator("nav ul").wait_for()

    async def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page as it is, a line each."""
        if not await self.page.evaluate("() => typeof axe !== 'undefined'"):
            await self.page.evaluate(axe())
        found: dict[str, Any] = await self.page.evaluate("() => axe.run({resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['help']}: {node['html'][:300]} {node.get('failureSummary', '')}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    async def texts(self) -> list[str]:
        """Return the texts, labels and titles of the page that are in its own language; codes are in none."""
        found: list[str] = await self.page.evaluate(_TEXTS)
        return found

    async def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        wider: int = await self.page.evaluate(
            "() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
        )
        return wider

    async def focused(self) -> str:
        """Return the text, or else the name, of what has the focus."""
        script = "() => (document.activeElement.innerText || document.activeElement.name || '').trim()"
        text: str = await self.page.evaluate(script)
        return text

    def _said(self, message: ConsoleMessage) -> None:
        text = f"{message.type}: {message.text}"
        if message.type in {"error", "warning"} and not any(one in text for one in self.allowed):
            self.wrong.append(text)

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.wrong.append(f"asked {request.url}")


@contextlib.asynccontextmanager
async def visit(
    browser: Browser, address: str, *, state: Any = None, width: int = WIDE, dark: bool = False, language: str = "en"
) -> AsyncIterator[Visit]:
    """Open a tab at ``host:port``; when it is closed, nothing may have gone wrong in it."""
    context: BrowserContext = await browser.new_context(
        storage_state=state,
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        locale=language,
        service_workers="block",
    )
    context.set_default_timeout(PATIENCE_MS)
    await context.add_init_script(_TELL)
    try:
        tab = Visit(await context.new_page(), f"http://{address}")
        yield tab
    finally:
        await context.close()
    assert tab.wrong == []
