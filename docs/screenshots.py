"""Take the screenshots of docs/console.md: ``python -m docs.screenshots``. It needs the development set-up and Chromium.

A demonstration is served, two centres ask each other something, somebody ends the node of one of them, signs in at the console of
the other and holds a message; each page is then taken as it stands. Persons, firms, vessels and cases are those of the
demonstration: invented.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
REQUEST = Path(__file__).parent.parent / "schemas" / "examples" / "request.minimal.json"
CHROMIUM = "/usr/bin/chromium"
CENTRE, ENDED = "BRU", "LYO"
SIZE = {"width": 1280, "height": 690}
MOST_BYTES = 200_000
SILENT_SECONDS, TRAFFIC_SECONDS = 60, 45
PAGES = ("queues", "messages", "requests", "directory", "audit", "trouble")
OBSERVED_SECONDS = 10


def main() -> None:
    """Take all of them."""
    IMAGES.mkdir(exist_ok=True)
    with served() as centres, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport=SIZE, color_scheme="light", locale="en").new_page()
        for origin, recipient in ((CENTRE, ENDED), (ENDED, CENTRE)):
            ask(centres[origin], recipient)
        sign_in(page, centres[CENTRE])
        save(page, "sign-in")
        enter(page)
        time.sleep(TRAFFIC_SECONDS)
        take_recall(page, centres[ENDED])
        take_silence(page, centres)
        take_rest(page, centres[CENTRE])
        browser.close()


@contextlib.contextmanager
def served() -> Iterator[dict[str, dict[str, Any]]]:
    """Serve a demonstration; give what it says of each centre."""
    command = [sys.executable, "-m", "relay", "demo", "--serve", "--json", "--away", "3600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:  # noqa: S603 - our own interpreter and module
        try:
            told = demo.stdout.readline() if demo.stdout else ""
            yield json.loads(told)["centres"]
        finally:
            demo.terminate()


def ask(centre: dict[str, Any], recipient: str) -> None:
    """Let a centre's own system ask another centre something, whose clock then runs."""
    asked = {**json.loads(REQUEST.read_bytes()), "to": [recipient]}
    token = (Path(centre["settings"]).parent / "tokens" / "system").read_text(encoding="utf-8").strip()
    headers = {"Authorization": f"Bearer {token}"}
    httpx2.post(f"{centre['api']}/v1/messages", json=asked, headers=headers, trust_env=False).raise_for_status()


def sign_in(page: Page, centre: dict[str, Any]) -> None:
    """Fill in the form of a centre's console."""
    page.goto(centre["console"])
    page.locator("#name").fill(centre["name"])
    page.locator("#password").fill(centre["password"])


def enter(page: Page) -> None:
    """Send the form."""
    page.keyboard.press("Enter")
    page.locator("nav ul").wait_for()


def take_recall(page: Page, centre: dict[str, Any]) -> None:
    """Take the story's first message, which its origin took back later."""
    sign_in(page, centre)
    enter(page)
    page.goto(centre["console"] + "messages?direction=sent")
    page.locator("main tbody a").last.click()
    page.locator("#recipients").wait_for()
    save(page, "message")


def take_silence(page: Page, centres: dict[str, dict[str, Any]]) -> None:
    """End a node, and take what another centre sees of it, light and dark."""
    page.goto(centres[CENTRE]["console"])
    os.kill(centres[ENDED]["pid"], signal.SIGKILL)
    page.locator(f"tr.silent th b:text-is('{ENDED}')").wait_for(timeout=SILENT_SECONDS * 1000)
    time.sleep(TRAFFIC_SECONDS)
    save(page, "network")
    page.emulate_media(color_scheme="dark")
    save(page, "network-dark")
    page.emulate_media(color_scheme="light")


def take_rest(page: Page, centre: dict[str, Any]) -> None:
    """Hold a message, and take the other pages."""
    hold(page)
    save(page, "held")
    time.sleep(OBSERVED_SECONDS)  # until what is held is counted, too
    for name in PAGES:
        page.goto(centre["console"] + name)
        save(page, name)


def hold(page: Page) -> None:
    """Hold the newest message that waits for the node that was ended."""
    page.goto(page.url + f"messages?direction=sent&peer={ENDED}")
    page.locator("main tbody a").first.click()
    page.locator("main a[href^='/trouble/sent/']").click()
    form = page.locator("form.act[action$='/hold']")
    form.locator("input[name=reason]").fill("Not before the duty officer has called back")
    form.locator("button").click()
    page.locator("p.notice").wait_for()


def save(page: Page, name: str) -> None:
    """Save what is seen."""
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path.name} has more than {MOST_BYTES} bytes.")


if __name__ == "__main__":
    main()
