"""The console in a real browser: by keyboard, in three languages, light and dark, enlarged, live, and against hostile messages.

Each tab is watched: a test fails when its pages report an error, break their security policy, or ask another origin for anything
(:mod:`tests.browsing`).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from playwright.async_api import Browser, StorageState, async_playwright, expect

from relay import messages
from relay.console.languages import translations
from relay.console.pages import pages
from relay.errors import RelayError, StoreTrouble
from relay.handover import No
from relay.network import Network
from relay.rabbit import PrivateBroker
from relay.store import record
from relay.submissions import Stored, Submission
from tests.browsing import NARROW, PATIENCE_MS, WIDE, Visit, launch, visit
from tests.console import PASSWORD, Served, hire, taken
from tests.live import EXAMPLES, Live, eventually, message, private_network, redirect

DOCS = EXAMPLES.parent.parent / "docs"
HOME, AWAY, SILENT = "LUMA", "LUMB", "LUMC"
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
EVERYTHING = [{"crime_types": ["*"], "regions": ["001"], "nominal": True}]
OFFICER, GUEST = "officer", "guest"
NO_ROLE = "status of 403"

expect.set_options(timeout=PATIENCE_MS)
pytestmark = pytest.mark.timeout(300)  # a broker, three nodes and a browser begin before the first test


@dataclass
class Desk:
    """The console of ``HOME``: who is signed in there, its peers, and a message that came from one of them."""

    served: Served
    browser: Browser
    signed_in: dict[str, StorageState]
    received: str = ""
    sent: str = ""

    @property
    def live(self) -> Live:
        """The nodes."""
        return self.served.live

    @property
    def address(self) -> str:
        """Where the console listens."""
        return self.live.network.console(HOME)

    def visit(self, who: str = OFFICER, **how: Any) -> AbstractAsyncContextManager[Visit]:
        """Open a tab as somebody."""
        return visit(self.browser, self.address, state=self.signed_in.get(who), **how)

    async def recorded(self, why: str) -> list[tuple[str, str]]:
        """Return the steps and actors of the record's entries with a reason."""
        store = self.live[HOME].centre.store
        rows = await store.read(lambda connection: record.leaves(connection, store.epoch, 0, 100_000))
        return [(leaf["step"], leaf["actor"]) for leaf in map(json.loads, rows) if leaf.get("why") == why]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium, once for all tests."""
    async with async_playwright() as play:
        browser = await launch(play)
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
def offices(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Write a network in which one centre tries to put scripts into what the directory says of it."""
    network = private_network(tmp_path_factory.mktemp("browser") / "network", broker, "browser", (HOME, AWAY, SILENT))

    def inject(register: dict[str, Any]) -> None:
        for member in register["members"]:
            member |= {"publish": EVERYTHING, "subscribe": EVERYTHING}
        member = next(one for one in register["members"] if one["id"] == AWAY)
        member["name"] = f"Office {SCRIPT}"
        member["contact"]["name"] = f"Officer {SCRIPT}"

    hire(network, HOME, OFFICER, "watch", "operate", "audit", "read", person="Ines Aldermoor")
    hire(network, HOME, GUEST, "watch", person="Tomas Verhelst")
    return redirect(network, inject)


@pytest.fixture(scope="module")
async def desk(offices: Network, broker: PrivateBroker, browser: Browser) -> AsyncIterator[Desk]:
    """Run three nodes that notice silence within seconds, let messages pass and one be put off, and sign two people in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "1")
        patch.setenv("RELAY_CONSOLE__LIVE_SECONDS", "0.5")
        served = Served(Live(offices, broker))
        try:
            await served.live.start(AWAY, SILENT)
            await served.start(HOME)
            desk = Desk(served, browser, {})
            await _talk(desk)
            for name in (OFFICER, GUEST):
                async with desk.visit(name) as tab:
                    await tab.sign_in(name, PASSWORD)
                    desk.signed_in[name] = await tab.page.context.storage_state()
            yield desk
        finally:
            await served.close()


async def _talk(desk: Desk) -> None:
    """Let there be something on every page."""
    live = desk.live
    desk.sent = (await live.submit(HOME, message(to=[AWAY, SILENT]))).id
    asked = {**json.loads((EXAMPLES / "request.minimal.json").read_bytes()), "to": [HOME]}
    request = await live.submit(AWAY, json.dumps(asked).encode())
    late = await live.submit(AWAY, message(to=[HOME], case_number="LATE-1"))
    desk.received = (await live.submit(AWAY, message(to=[HOME]))).id
    for one in (request.id, late.id, desk.received):
        await live.reaches(AWAY, one, HOME, "accepted")

    async def given() -> bool:
        return late.id in [one.id for one in await live[HOME].handover.take(1000, 1)]

    await eventually(given)
    await live[HOME].handover.refuse(No(late.id, "busy", f"Not now {SCRIPT}", retry_after=3600))


async def test_one_signs_in_and_goes_everywhere_by_keyboard(desk: Desk) -> None:
    """Name, password, Enter; the first Tab of a page skips to its content; each page of the menu can be reached and opened."""
    async with desk.visit("nobody yet") as tab:
        keys = tab.page.keyboard
        await tab.go("/")
        await expect(tab.page.locator("#name")).to_be_focused()  # the form takes the focus by itself
        await keys.type(OFFICER)
        await keys.press("Tab")
        await keys.type(PASSWORD)
        await keys.press("Enter")
        await expect(tab.page.locator("h1")).to_have_text("Network")
        await keys.press("Tab")
        assert await tab.focused() == "Skip to the content"
        await keys.press("Enter")
        assert await tab.page.evaluate("() => document.activeElement.id") == "main"
        for name in await tab.page.locator("nav ul a").all_inner_texts():
            await _open(tab, name)


async def _open(tab: Visit, name: str) -> None:
    """Open a page of the menu with Tab and Enter alone."""
    await tab.page.evaluate("() => { document.activeElement.blur(); getSelection().removeAllRanges() }")
    for _ in range(30):
        await tab.page.keyboard.press("Tab")
        if await tab.focused() == name:
            await tab.page.keyboard.press("Enter")
            await expect(tab.page.locator("nav [aria-current=page]")).to_have_text(name)
            return
    pytest.fail(f"{name} can't be reached by Tab")


@pytest.mark.parametrize(
    ("language", "dark", "width"), [("en", False, WIDE), ("fr", True, NARROW), ("es", False, NARROW)], ids=["en", "fr", "es"]
)
async def test_every_page_is_readable_for_everybody(desk: Desk, language: str, dark: bool, width: int) -> None:
    """A page says its language and has no text of another; at 200 % nothing sticks out; axe-core finds nothing, light or dark."""
    wrong: list[str] = []
    async with desk.visit("nobody yet", language=language, dark=dark, width=width) as tab:
        assert await tab.go("/sign-in") == 200
        wrong += await _wrong(tab, language)
    async with desk.visit(language=language, dark=dark, width=width) as tab:
        for path in _addresses(desk, "received" if language == "en" else "sent"):
            assert await tab.go(path) == 200, path
            wrong += await _wrong(tab, language)
        await _reveal(tab, desk.received)
        wrong += await _wrong(tab, language)
        tab.allowed = ("status of 404",)
        assert await tab.go("/nothing") == 404
        wrong += await _wrong(tab, language)
    if wrong:
        pytest.fail("\n".join(wrong))


def _addresses(desk: Desk, side: str = "received") -> list[str]:
    """Return where every page is; those of one message are of one that was sent, or received."""
    known = {"message": desk.sent if side == "sent" else desk.received, "side": side, "centre": AWAY}
    return [page.path.format(**known) for page in pages()]


async def _wrong(tab: Visit, language: str) -> list[str]:
    """Return what is wrong with a page, in words."""
    said = await tab.page.locator("html").get_attribute("lang")
    found = [f"says that its language is {said}"] if said != language else []
    found += [f"left in English: {text}" for text in _left_in_english(await tab.texts(), language)]
    found += [f"wider than its window by {wider}"] if (wider := await tab.overflow()) > 0 else []
    if language != "es":  # as wide as fr, and as light as en
        found += await tab.violations()
    return [f"{tab.page.url.removeprefix(tab.origin)}: {one}" for one in found]


def _left_in_english(texts: list[str], language: str) -> list[str]:
    """Return the texts that have a translation, and are not it."""
    words = translations(language)
    return [text for text in texts if words.gettext(text) != text]


async def test_a_peer_is_seen_to_fall_silent_and_to_come_back(desk: Desk) -> None:
    """Without a reload, nor a loss of focus: silent, with what waits for it growing older, and after its return neither."""
    async with desk.visit() as tab:
        await tab.go("/")
        await tab.page.evaluate("() => { window.same = true }")
        await tab.page.locator("tbody a[href^=mailto]").first.focus()
        focused = await tab.focused()
        row = tab.page.locator("tbody tr", has=tab.page.locator(f"th b:text-is('{SILENT}')"))
        state, oldest = row.locator(".state"), row.locator("td").nth(2)

        async def settled() -> bool:  # whatever waits there is taken, now or with the next look
            await desk.live.take(SILENT, 0.5)
            return "nothing" in await oldest.inner_text()

        async def age() -> int:
            found = re.search(r"routine: (?:(\d+) min ?)?(?:(\d+) s)?", await oldest.inner_text())
            return 60 * int(found[1] or 0) + int(found[2] or 0) if found else 0

        async def older(seconds: int) -> bool:
            return await age() > seconds

        await expect(state).to_contain_text("heard")
        await eventually(settled)
        await desk.live.abort(SILENT)
        sent = await desk.live.submit(HOME, message(to=[SILENT]))
        await expect(state).to_contain_text("silent")
        await expect(tab.page.locator("tbody tr").first).to_contain_text(SILENT)
        await eventually(partial(older, 0))
        await eventually(partial(older, await age()))
        await desk.live.start(SILENT)
        await expect(state).to_contain_text("heard")
        await taken(desk.live, SILENT, sent.id)
        await expect(oldest).to_contain_text("nothing")
        assert await tab.page.evaluate("() => window.same")
        assert await tab.focused() == focused != ""


@pytest.mark.parametrize("width", [390, NARROW])
async def test_in_a_narrow_window_each_row_is_a_card(desk: Desk, width: int) -> None:
    """No table has to be scrolled but the shape of the queues; each cell that is shown stands beside its column's heading."""
    async with desk.visit(width=width) as tab:
        for path in _addresses(desk, "sent"):
            await tab.go(path)
            assert await tab.overflow() <= 0, path
            wider = "() => [...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
            assert await tab.page.evaluate(wider) == (1 if path == "/queues" else 0), path
            for cell in await tab.page.locator("table.rows tbody td[data-heading]:visible").all():
                shown = await cell.evaluate("cell => getComputedStyle(cell, '::before').content")
                assert shown == json.dumps(await cell.get_attribute("data-heading"), ensure_ascii=False), path


async def test_the_first_page_says_what_is_stuck_and_leads_there(desk: Desk) -> None:
    """While a message is held the first page says so, with the way to it; when it is released nothing is stuck."""
    stuck = "1 message does not go on by itself."
    async with desk.visit() as tab:
        await tab.go("/")
        await expect(tab.page.locator("main")).to_contain_text("No message is dead, held or quarantined.")
        await _act(tab, f"/trouble/received/{desk.received}", "hold", "Until the officer calls back")
        await tab.go("/")
        await expect(tab.page.locator("section.trouble", has_text=stuck)).to_contain_text("held 1")
        await tab.page.locator("section.trouble a", has_text="held").click()
        await expect(tab.page.locator("#held-received")).to_contain_text("held")
        await tab.page.locator(f"main a[href='/trouble/received/{desk.received}']").click()
        await _act(tab, f"/trouble/received/{desk.received}", "release", "He called back")
        await tab.go("/")
        await expect(tab.page.locator("main")).to_contain_text("No message is dead, held or quarantined.")


async def _act(tab: Visit, path: str, verb: str, reason: str) -> None:
    """Do something about a message, with a reason."""
    await tab.go(path)
    form = tab.page.locator(f"form.act[action$='/{verb}']")
    await form.locator("input[name=reason]").fill(reason)
    await form.locator("button").click()
    await tab.page.locator("[role=status].notice").wait_for()


async def test_one_proof_is_taken_after_the_other(desk: Desk) -> None:
    """The form for a proof is good again without a reload when it is filled in anew, and each proof is on record."""
    async with desk.visit() as tab:
        await tab.go(f"/audit?message={desk.sent}")
        form = tab.page.locator("form[action='/audit/proof']")
        for reason in ("For the first court", "For the second court"):
            await form.locator("input[name=reason]").fill(reason)
            async with tab.page.expect_download() as taken:
                await form.locator("button").click()
            assert (await taken.value).suggested_filename == f"{desk.sent}.proof.json"
            assert [step for step, _ in await desk.recorded(reason)] == ["proved"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_what_is_wrong_with_the_node_is_readable_for_everybody(desk: Desk, dark: bool) -> None:
    """The bar that says what is wrong stands on every page within a landmark, and axe-core finds nothing, light or dark."""
    trouble = StoreTrouble("disk-full", "Only 5 bytes of disk are free, below the floor.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk.live[HOME], "full", lambda: trouble)
        async with desk.visit(width=NARROW, dark=dark) as tab:
            await tab.go("/queues")
            await expect(tab.page.locator("aside .banner")).to_contain_text("Only 5 bytes")
            assert await tab.violations() == []
            assert await tab.overflow() <= 0


async def test_an_old_page_says_on_top_that_it_is_old(desk: Desk) -> None:
    """Nothing green passes for the present: when the node does not answer, and when the session is over, with a sign-in."""
    async with desk.visit("nobody yet") as tab:
        await tab.sign_in(OFFICER, PASSWORD)
        stale = tab.page.locator("#stale")
        await expect(tab.page.locator("#status")).to_contain_text("Live")
        await expect(stale).to_be_hidden()
        other = await tab.page.context.new_page()
        await other.goto(tab.origin)
        await other.locator("form[action='/sign-out'] button").click()
        await expect(stale).to_contain_text("The session is over: sign in again.")
        assert await tab.violations() == []
        await stale.locator("a").click()
        await expect(tab.page.locator("h1")).to_have_text("Sign in")
    async with desk.visit() as tab:
        tab.allowed = ("net::ERR_FAILED",)
        await tab.page.route("**/live/**", lambda route: route.abort())
        await tab.go("/")
        await expect(tab.page.locator("#stale")).to_contain_text("Connection lost since")
        await expect(tab.page.locator("#stale a")).to_be_hidden()


async def _reveal(tab: Visit, message_id: str, reason: str = "Order 7 of the invented court") -> None:
    """Open what a message says, with a reason."""
    await tab.go(f"/messages/{message_id}")
    form = tab.page.locator("form.act[action$='/content']")
    await form.locator("input[name=reason]").fill(reason)
    await tab.page.keyboard.press("Enter")
    await tab.page.locator("pre").wait_for()


async def test_what_a_message_says_is_shown_for_a_reason_alone(desk: Desk) -> None:
    """The form goes nowhere without a reason; with one the message is shown, and the record says who read it and why."""
    async with desk.visit() as tab:
        await tab.go(f"/messages/{desk.received}")
        form = tab.page.locator("form.act[action$='/content']")
        await form.locator("button").click()
        assert await form.locator("input[name=reason]:invalid").count() == 1
        assert tab.page.url.endswith(f"/messages/{desk.received}")
        await _reveal(tab, desk.received, "To call the port")
        await expect(tab.page.locator("pre")).to_contain_text("seizure")
        assert await desk.recorded("To call the port") == [("content-read", "officer (Ines Aldermoor)")]


async def test_a_message_is_held_and_released_by_forms(desk: Desk) -> None:
    """Each act asks for a reason, says what it did, and leaves an entry in the record."""
    async with desk.visit() as tab:
        for verb, step, state in (("hold", "held", "held"), ("release", "unheld", "given out")):
            await tab.go(f"/trouble/received/{desk.received}")
            form = tab.page.locator(f"form.act[action$='/{verb}']")
            await form.locator("input[name=reason]").fill(f"I want to {verb} it")
            await form.locator("button").click()
            await expect(tab.page.locator("[role=status].notice")).to_contain_text(desk.received)
            await expect(tab.page.locator("#live h2 .state")).to_contain_text(state)
            assert await desk.recorded(f"I want to {verb} it") == [(step, "officer (Ines Aldermoor)")]


async def test_without_the_role_an_act_is_refused_in_words(desk: Desk) -> None:
    """A guest sees no forms for acts; one that is made up all the same is answered 403, with which role is missing."""
    async with desk.visit(GUEST) as tab:
        for path in (f"/messages/{desk.received}", f"/trouble/received/{desk.received}"):
            assert await tab.go(path) == 200
            assert await tab.page.locator("form.act").count() == 0
        tab.allowed = (NO_ROLE,)
        async with tab.page.expect_navigation() as navigation:
            await tab.page.evaluate(
                "path => { const form = document.createElement('form'); form.method = 'post'; form.action = path; "
                "document.body.append(form); form.submit() }",
                f"/trouble/received/{desk.received}/hold",
            )
        assert (await navigation.value).status == 403
        await expect(tab.page.locator("main")).to_contain_text("this needs operate")
        assert await tab.violations() == []


async def test_scripts_in_messages_show_as_text(desk: Desk) -> None:
    """A message of each kind with a script in every free field, from a centre with scripts in its name, runs nothing anywhere."""
    hostile = []
    for kind in messages.MODELS.keys() - {"update", "cancel", "reply"}:  # these would need what they refer to
        raw = _hostile(kind)
        outcome = (await desk.live[AWAY].outbox.submit([Submission(raw, messages.parse(raw))]))[0]
        assert isinstance(outcome, Stored), outcome
        hostile.append(outcome.id)
    for one in hostile:
        await desk.live.reaches(AWAY, one, HOME, "accepted")
    async with desk.visit() as tab:
        for path in _addresses(desk):
            await tab.go(path)
            await _is_harmless(tab)
        for one in hostile:
            await _reveal(tab, one, SCRIPT)
            await _is_harmless(tab)
            assert "<script>document.title='owned'</script>" in await tab.page.locator("pre").inner_text()
            assert SCRIPT in await tab.page.locator("p.notice").inner_text()


async def _is_harmless(tab: Visit) -> None:
    assert "owned" not in await tab.page.title()
    assert await tab.page.locator("img[src=x], script:not([src])").count() == 0


def _hostile(kind: str) -> bytes:
    """Return the full example of a kind to ``HOME``, a script in every field that takes it."""
    whole: dict[str, Any] = json.loads((EXAMPLES / f"{kind}.full.json").read_bytes())
    whole |= {"origin": AWAY, "to": [HOME], "classification": "unclassified", "references": []}
    for place, key in list(_strings(whole)):
        kept, place[key] = place[key], SCRIPT
        try:
            messages.parse(json.dumps(whole).encode())
        except RelayError:
            place[key] = kept
    return json.dumps(whole).encode()


def _strings(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return every place of a string: what holds it, and its key there."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(one, str):
            yield value, key
        else:
            yield from _strings(one)


def test_every_page_is_explained_and_shown() -> None:
    """The document about the console has a section for each page of the menu, and shows each picture that there is."""
    text = (DOCS / "console.md").read_text(encoding="utf-8")
    assert [page.title for page in pages() if page.menu and f"\n## {page.title}\n" not in text] == []
    assert sorted(re.findall(r"\(images/(.*?)\)", text)) == sorted(one.name for one in (DOCS / "images").iterdir())
