"""The console: who is let in, what a browser may do, what an act needs, what keeps a page up to date, and when it all ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from babel.messages.extract import extract
from prometheus_client.parser import text_string_to_metric_families

from relay import passwords
from relay.certificates import CertificateAuthority
from relay.clients import Register
from relay.clock import now_ms
from relay.console import Console, languages
from relay.console import live as lives
from relay.console.session import MOST_ADDRESSES, Session, Sessions
from relay.deadlines import Alarm
from relay.errors import Conflict, Misconfigured, NotAllowed, Refused, catalogue
from relay.keys import write_private
from relay.network import write_network
from relay.rabbit import PrivateBroker
from relay.renewals import Renewals
from relay.settings import load
from relay.store import record
from relay.web import listener, refusals
from tests.console import PASSWORD, WHY, Served, Visitor, code_of, hire
from tests.live import Live, eventually, private_network
from tests.test_cli import relay

A, B = CENTRES = ("WEBA", "WEBB")
VERIFY = "/audit/verify"
LISTS = ["/", "/queues", "/messages", "/trouble", "/requests", "/directory", "/audit"]
CONSOLE = resources.files("relay.console")
PAGES_AT = ("/", "/nothing", "/sign-in", "/live/network", "/static/0/console.css")


@pytest.fixture(scope="module", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Let passwords that are made here cost less to try; what is kept of one says what it costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_N", 2**10)
        yield


@pytest.fixture(scope="module")
async def served(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Run one of two nodes with its console; refusals are written every half second, open pages looked at as often."""
    network = private_network(tmp_path_factory.mktemp("console") / "net", broker, "console", CENTRES)
    for name, roles in {"anna": ("operate", "audit"), "wim": ("watch",), "sam": ("submit", "read")}.items():
        hire(network, A, name, *roles)  # type: ignore[arg-type]
    Register(network.centre(A) / "clients.json").add("robot", ("watch",), why=WHY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refusals, "EVERY_SECONDS", 0.5)
        patch.setenv("RELAY_CONSOLE__LIVE_SECONDS", "0.5")
        patch.setenv("RELAY_CONSOLE__ATTEMPTS_PER_MINUTE", "1000")
        patch.setattr(listener, "FINISH_SECONDS", 40)  # in which a stalled machine, too, finishes what can come to its end
        made = Served(Live(network, broker))
        try:
            await made.start(A)
            yield made
        finally:
            await made.close()


def register(served: Served) -> Register:
    """Return the clients' file."""
    return Register(served.live.network.centre(A) / "clients.json")


async def leaves(served: Served, **having: str) -> list[dict[str, Any]]:
    """Return the leaves of the record that have these fields."""
    store = served.live[A].centre.store
    rows = await store.read(lambda connection: record.leaves(connection, store.epoch, 0, 100_000))
    return [leaf for leaf in map(json.loads, rows) if all(leaf.get(key) == value for key, value in having.items())]


# What a browser may do


async def test_every_answer_forbids_what_a_page_does_not_need(served: Served) -> None:
    """Pages, refusals, streams and files alike: no foreign content, no framing, no sniffing, nothing kept but what is named."""
    anna = await served.signed_in(A, "anna")
    for visitor, path in ((served.visitor(A), path) for path in PAGES_AT):
        headers = (await visitor.get(path)).headers
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert (headers["cross-origin-opener-policy"], headers["cache-control"]) == ("same-origin", "no-store")
    page = (await anna.get("/")).text
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", page)
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        kept = await anna.get(address)
        assert (kept.status_code, kept.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert (await anna.get(re.sub(r"static/\w+", "static/0123456789abcdef", address))).status_code == 404


async def test_without_encryption_it_answers_to_this_machine_alone(served: Served) -> None:
    """A name that somebody pointed at loopback opens nothing."""
    answer = await served.visitor(A).get("/sign-in", host="console.example")
    assert (answer.status_code, code_of(answer.text)) == (421, "wrong-host")


# Signing in


async def test_nobody_sees_a_page_without_signing_in(served: Served) -> None:
    """Each address leads to the sign-in and back, a stream ends, and a form is not taken."""
    visitor = served.visitor(A)
    answer = await visitor.get("/nothing?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/nothing%3Fx%3D1")
    assert (await visitor.get("/live/network")).text.startswith("event: over")
    assert (await visitor.post("/trouble/approvals/x/approve", reason=WHY)).headers["location"] == "/sign-in"
    broken = await visitor.get("/sign-in")
    assert "amqp" not in broken.text  # how the node does is for who is signed in


async def test_sign_in_and_out(served: Served) -> None:
    """The cookie is for this host's pages alone; signing out ends the session, wherever its cookie is kept."""
    visitor = served.visitor(A)
    answer = await visitor.sign_in("anna", target="/?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?x=1")
    await eventually(lambda: leaves(served, step="signed-in", actor="anna (Anna Example)", why="127.0.0.1"))
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"relay-session-{A}=")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    page = await visitor.get("/")
    assert page.status_code == 200
    assert "Anna Example (operate, audit)" in page.text
    assert '<noscript><meta http-equiv="refresh" content="20;url=/?refreshed=1"></noscript>' in page.text
    assert (await visitor.get("/sign-in?next=/nothing")).headers["location"] == "/nothing"
    before = dict(visitor.client.cookies)
    await visitor.sign_in("anna")
    other = served.visitor(A)
    other.client.cookies.update(before)
    assert (await other.get("/")).status_code == 303  # who signs in anew has one session
    kept = dict(visitor.client.cookies)
    assert (await visitor.post("/sign-out")).headers["location"] == "/sign-in"
    visitor.client.cookies.update(kept)
    assert (await visitor.get("/")).status_code == 303


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "/sign-in", "x", "/a\nb"])
async def test_a_sign_in_leads_to_this_console_alone(served: Served, target: str) -> None:
    """Whatever the address says, nobody is led to another host from here."""
    assert (await served.visitor(A).sign_in("anna", target=target)).headers["location"] == "/"


@pytest.mark.parametrize(
    ("name", "password"), [("anna", "wrong"), ("anna", ""), ("nobody", PASSWORD), ("robot", PASSWORD), ("", ""), ("system", "")]
)
async def test_a_failed_sign_in_does_not_tell_why(served: Served, name: str, password: str) -> None:
    """The same page for a wrong password, an unknown name, a client without a person; the form keeps the name."""
    answer = await served.visitor(A).sign_in(name, password)
    assert (answer.status_code, code_of(answer.text)) == (403, "sign-in-failed")
    assert "set-cookie" not in answer.headers
    assert f'value="{name}"' in answer.text


async def test_failed_sign_ins_are_counted_and_on_record(served: Served) -> None:
    """The record names the account that was tried and the address, once for many; the metric counts each."""
    for _ in range(3):
        await served.visitor(A).sign_in("wim", "wrong")

    async def noted() -> bool:
        found = await leaves(served, step="access-refused", code="sign-in-failed", actor="wim (Wim Example), 127.0.0.1")
        return sum(int(one["why"].partition("x")[0]) for one in found) == 3

    await eventually(noted)
    text = served.live[A].centre.metrics.text().decode()
    counted = {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "relay_console_sign_ins_total"
    }
    assert counted["refused"] >= 3


async def test_too_many_sign_ins_are_not_looked_at(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some tries with a name even its password is not tried for a while, and the page says for how long."""
    settings = served.live[A].centre.settings
    few = settings.console.model_copy(update={"attempts_per_minute": 3.0})
    monkeypatch.setattr(served.live[A].centre, "settings", settings.model_copy(update={"console": few}))
    now = time.monotonic()
    monkeypatch.setattr("relay.console.sign_in.time", SimpleNamespace(monotonic=lambda: now))  # however slow they are tried
    hire(served.live.network, A, "tired", "watch")
    served.heres[A].clients.reload()
    codes = [code_of((await served.visitor(A).sign_in("tired", "wrong")).text) for _ in range(4)]
    assert codes == ["sign-in-failed"] * 3 + ["too-many-sign-ins"]
    answer = await served.visitor(A).sign_in("tired")
    assert (answer.status_code, code_of(answer.text)) == (429, "too-many-sign-ins")
    assert 0 < int(answer.headers["retry-after"]) <= 20


async def test_a_session_ends_with_what_it_stands_on(served: Served) -> None:
    """A new password, other roles and a revoked client each end the session within a second; the stream says so."""
    hire(served.live.network, A, "short", "watch")
    served.heres[A].clients.reload()
    visitor = await served.signed_in(A, "short")
    heard = asyncio.create_task(_names(visitor, "/live/network", until="over"))

    async def out() -> bool:
        return (await visitor.get("/")).status_code == 303

    register(served).set_password("short", f"another {PASSWORD}", why=WHY)
    await eventually(out)
    assert "over" in await asyncio.wait_for(heard, 60)
    visitor = await served.signed_in(A, "short", f"another {PASSWORD}")
    register(served).revoke("short", why=WHY)
    await eventually(out)
    assert code_of((await visitor.sign_in("short", f"another {PASSWORD}")).text) == "sign-in-failed"


async def test_a_session_ends_by_itself(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle for its minutes it is over, and a page that only asks for itself again is idle; after its hours in any case."""
    now = time.monotonic()
    idle = served.live[A].centre.settings.console.session_minutes * 60

    def later(seconds: float) -> None:
        monkeypatch.setattr("relay.console.session.monotonic", lambda: now + seconds)

    later(0)
    visitor = await served.signed_in(A, "anna")
    later(idle - 10)
    assert (await visitor.get("/?refreshed=1")).status_code == 200
    later(idle + 10)
    assert (await visitor.get("/")).status_code == 303
    later(0)
    visitor = await served.signed_in(A, "anna")
    for minutes in range(0, 12 * 60, 20):
        later(minutes * 60)
        assert (await visitor.get("/")).status_code == 200
    later(12 * 3600 + 60)
    assert (await visitor.get("/")).status_code == 303


# Roles and forms


async def test_a_page_without_the_role_is_refused_clearly_and_on_record(served: Served) -> None:
    """Who is signed in and may not see a page is told which roles there are, and the record has an entry."""
    sam = await served.signed_in(A, "sam")
    answer = await sam.get("/")
    assert (answer.status_code, code_of(answer.text)) == (403, "not-allowed")
    assert "Your roles are: submit, read; this needs watch or operate or audit." in answer.text

    async def noted() -> bool:
        return bool(await leaves(served, step="access-refused", code="not-allowed", actor="sam (Sam Example), 127.0.0.1"))

    await eventually(noted)


async def test_a_form_from_elsewhere_is_refused(served: Served) -> None:
    """What another page sends in somebody's name, and what does not say from where it comes, is not taken, signed in or not."""
    anna = await served.signed_in(A, "anna")
    url = anna.url
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": url, "sec-fetch-site": "cross-site"},
        {"origin": url, "sec-fetch-site": "same-site"},
        {"origin": url, "sec-fetch-site": "none"},
    ):
        for path in ("/sign-out", "/sign-in", "/language"):
            answer = await anna.client.post(path, headers=headers)
            assert (answer.status_code, code_of(answer.text)) == (403, "foreign-form"), (path, headers)
    assert (await anna.get("/")).status_code == 200
    answer = await anna.client.post("/language", headers={"origin": "null", "sec-fetch-site": "same-origin"}, content=b"back=/")
    assert answer.status_code == 303  # so says a browser that sends no referrer


async def test_an_act_needs_its_role_and_its_own_form_once(served: Served) -> None:
    """Without the role 403 and on record; a forged form does nothing; a replayed one does nothing again."""
    wim, anna = await served.signed_in(A, "wim"), await served.signed_in(A, "anna")
    answer = await wim.post(VERIFY, csrf="x", reason=WHY)
    assert (answer.status_code, code_of(answer.text)) == (403, "not-allowed")
    token = await anna.token("/audit", VERIFY)
    for forged in ("", "x", await (await served.signed_in(A, "anna")).token("/audit", VERIFY)):
        answer = await anna.post(VERIFY, csrf=forged, reason=WHY)
        assert (answer.status_code, code_of(answer.text)) == (403, "bad-csrf")
    answer = await anna.post(VERIFY, csrf=token, reason=WHY)
    assert answer.status_code == 303
    assert 'class="notice"' in (await anna.get(answer.headers["location"])).text
    assert 'class="notice"' not in (await anna.get("/audit")).text
    answer = await anna.post(VERIFY, csrf=token, reason=WHY)
    assert (answer.status_code, code_of(answer.text)) == (409, "form-used")
    for code, who in (("not-allowed", "wim (Wim Example)"), ("bad-csrf", "anna (Anna Example)")):

        async def noted(code: str = code, who: str = who) -> bool:
            found = await leaves(served, step="access-refused", code=code, actor=f"{who}, 127.0.0.1")
            return any(one["why"].endswith(f"POST {VERIFY}") for one in found)

        await eventually(noted)


@pytest.mark.parametrize(
    ("form", "code"), [(b"csrf=%ff", "bad-request"), (b"&" * 99, "bad-request"), (b"x" * 20_000, "too-large")]
)
async def test_a_form_that_cannot_be_read_is_refused(served: Served, form: bytes, code: str) -> None:
    """Bytes that are no text, too many fields, too many bytes: each is told."""
    anna = await served.signed_in(A, "anna")
    assert code_of((await anna.client.post(VERIFY, content=form)).text) == code


def test_a_form_is_good_for_one_act_once() -> None:
    """Its token is for one address; sent again it is known again, anything else was never given out."""
    session = Session(None, 0, 0)  # type: ignore[arg-type]
    token = session.token("/a")
    for wrong in ("", "x", "é", session.token("/b"), Session(None, 0, 0).token("/a")):  # type: ignore[arg-type]
        with pytest.raises(NotAllowed, match="no token"):
            session.use("/a", wrong)
    session.use("/a", token)
    with pytest.raises(Conflict, match="before"):
        session.use("/a", token)
    session.use("/a", session.token("/a"))
    with pytest.raises(Conflict):
        session.use("/a", token)
    for number in range(MOST_ADDRESSES + 1):
        session.use(f"/{number}", session.token(f"/{number}"))
    assert len(session.sent) <= MOST_ADDRESSES
    with pytest.raises(NotAllowed):
        session.use("/a", token)


async def test_sessions_are_bounded(served: Served) -> None:
    """The one that was not used for longest goes first."""
    here = served.heres[A]
    anna = here.clients.named("anna")
    assert anna is not None
    sessions = Sessions(here.centre.settings.console, here.clients, here.centre.now)
    first, second = sessions.begin(anna), sessions.begin(anna)
    assert sessions.find(first, touch=True) is not None
    for _ in range(255):
        last = sessions.begin(anna)
    assert sessions.find(second, touch=True) is None
    assert sessions.find(first, touch=False) is not None
    assert sessions.find(last, touch=False) is not None


# Languages


async def test_pages_speak_the_readers_language(served: Served) -> None:
    """By the browser's wish, or by what was chosen; what is in English there says so."""
    for wish, title in (("fr-BE, en;q=0.5", "Se connecter"), ("es", "Iniciar sesión"), ("de", "Sign in")):
        page = (await served.visitor(A).get("/sign-in", **{"accept-language": wish})).text
        assert f"<h1>{title}</h1>" in page
    visitor = served.visitor(A)
    answer = await visitor.post("/language", language="es", back="/sign-in?next=/x")
    assert answer.headers["location"] == "/"  # never back to where one is led on from
    assert '<html lang="es">' in (await visitor.get("/sign-in", **{"accept-language": "fr"})).text
    answer = await visitor.sign_in("anna", "wrong")
    assert "Sesión no iniciada" in answer.text
    assert '<p lang="en">Name and password do not belong together.</p>' in answer.text


def texts() -> set[tuple[str, str | tuple[str, ...]]]:
    """Return every text of the console's templates and modules, with its file."""
    options = {"trimmed": "true", "silent": "false", "trim_blocks": "true", "lstrip_blocks": "true"}
    words = {"_": None, "gettext": None, "ngettext": (1, 2), "text": None}
    found = set()
    with resources.as_file(CONSOLE) as folder:
        for file in [*folder.glob("*.py"), *folder.glob("templates/*.html")]:
            method = "python" if file.suffix == ".py" else "jinja2.ext:babel_extract"
            options["extensions"] = "jinja2.ext.i18n,jinja2.ext.do"
            with file.open("rb") as opened:
                found |= {(file.name, one[1]) for one in extract(method, opened, keywords=words, options=options)}
    return found


@pytest.mark.parametrize("language", ["fr", "es"])
def test_every_text_has_its_translation(language: str) -> None:
    """No text of a page is missing in another language, and none has lost what is put into it."""
    translations = languages.translations(language)
    missing, broken = set(), set()
    known = {key for key in translations._catalog if key}  # type: ignore[attr-defined]
    for file, text in texts():
        one, *many = (text,) if isinstance(text, str) else text
        if one not in known and (one, 1) not in known and (one, 0) not in known:
            missing.add((file, one))
            continue
        for number in (1, 5):
            found = translations.ngettext(one, many[0], number) if many else translations.gettext(one)
            if set(re.findall(r"%\(\w+\)s", found)) != set(re.findall(r"%\(\w+\)s", many[0] if many else one)):
                broken.add((file, one))
    assert (sorted(missing), sorted(broken)) == ([], [])


@pytest.mark.parametrize("language", ["fr", "es"])
def test_every_translation_has_its_text(language: str) -> None:
    """What is translated is still said, by a page or by the catalogue of errors: a changed text does not lose its translation."""
    said = {words for entry in catalogue().values() for words in (entry.title, entry.meaning, entry.action)}
    said |= {words for _, text in texts() for words in ((text,) if isinstance(text, str) else text)}
    catalog = languages.translations(language)._catalog  # type: ignore[attr-defined]
    assert sorted({key if isinstance(key, str) else key[0] for key in catalog if key} - said) == []


# Live


async def _names(visitor: Visitor, path: str, until: str, heard: list[str] | None = None) -> list[str]:
    names = heard if heard is not None else []
    async with contextlib.aclosing(visitor.events(path)) as events:
        async for name, _ in events:
            names.append(name)
            if name == until:
                break
    return names


async def test_an_open_page_is_sent_again_when_it_changed(served: Served) -> None:
    """A peer that begins to speak is shown as heard on the open page, with nothing asked again; two pages show the same."""
    anna, wim = await served.signed_in(A, "anna"), await served.signed_in(A, "wim")
    first, second, other = regions = [list[str](), list[str](), list[str]()]

    async def listen(visitor: Visitor, shown: list[str]) -> None:
        async with contextlib.aclosing(visitor.events("/live/network")) as events:
            async for name, data in events:
                if name == "shown":
                    shown.append(data["region"])

    def heard(shown: list[str]) -> set[str]:
        return {one for one in shown if "</span> heard</span>" in one}

    streams = [asyncio.create_task(listen(one, shown)) for one, shown in zip((anna, anna, wim), regions, strict=True)]
    try:
        await eventually(lambda: all(regions))
        await served.live.start(B)
        await eventually(lambda: heard(first) & heard(second) and heard(other))
    finally:
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    assert "not heard yet" in first[0]
    assert "<html" not in other[-1]
    assert "Duty officer" in other[-1]


async def test_who_is_late_stands_on_top_with_whom_to_call(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promise that a peer does not keep is told above the table: which, since when, and the duty contact."""
    late, own = Alarm(B, "flash", "accepted", 7, now_ms() - 600_000), served.live[A].deadlines
    # its own next look would find that nothing is late
    monkeypatch.setattr(served.live[A], "deadlines", SimpleNamespace(alarms=(late,), contact=own.contact))
    anna = await served.signed_in(A, "anna")
    page = (await anna.get("/")).text
    top = page[page.index('<div id="live"') : page.index("<table")]
    assert f"{B} is late." in top
    assert "flash: not accepted in time (7), since" in " ".join(re.sub(r"<.*?>", "", top).split())
    assert "Duty officer" in top


async def test_streams_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """More open pages than the node serves are told so; the page itself is shown all the same."""
    monkeypatch.setattr(lives, "MOST_STREAMS", 0)
    anna = await served.signed_in(A, "anna")
    answer = await anna.get("/live/network")
    assert (answer.status_code, code_of(answer.text)) == (429, "too-many-streams")
    assert (await anna.get("/")).status_code == 200


# Trouble


async def test_whatever_is_asked_is_answered(served: Served) -> None:
    """Junk in addresses, queries, cookies and forms gets a page that says what is wrong: no fault of the node, no script."""
    anna, chance = await served.signed_in(A, "anna"), random.Random(6)  # noqa: S311 - no secret
    junk = [
        "",
        "\x00",
        "<script>alert(1)</script>",
        "9" * 400,
        "-1",
        "1e9",
        "../..",
        "%00",
        "é" * 50,
        "\ud7ff",
        "' OR 1=1 --",
        "{{ 7 * 7 }}",
    ]
    names = sorted(set(re.findall(r'(?:name="|[?&;])(\w+)(?:"|=)', "".join([(await anna.get(path)).text for path in LISTS]))))
    assert len(names) > 8
    for path in LISTS * 3:
        query = urlencode({chance.choice([*names, "junk"]): chance.choice(junk) for _ in range(chance.randint(1, 4))})
        answer = await anna.get(f"{path}?{query}")
        assert answer.status_code < 500, (path, query, answer.text)
        assert "<script>alert" not in answer.text
    for what in junk:
        for path in (
            f"/messages/{quote(what, safe='')}",
            f"/trouble/{quote(what, safe='')}/x",
            f"/{quote(what, safe='')}",
            f"//{quote(what)}",
        ):
            answer = await anna.get(path)
            assert answer.status_code < 500, (path, answer.text)
            assert "<script>alert" not in answer.text
    for what in junk + [chance.randbytes(50) for _ in range(3)]:
        raw = what if isinstance(what, bytes) else what.encode()
        for path in ("/sign-in", "/language", "/sign-out", VERIFY):
            stranger = served.visitor(A, cookie=f"relay-session-{A}={quote(raw)}; relay-language={quote(raw)}")
            assert (await stranger.client.post(path, content=b"name=" + raw + b"&next=" + raw)).status_code < 500


async def test_a_locked_store_keeps_no_page_waiting(served: Served) -> None:
    """While another process holds the store, people sign in and see within seconds what is wrong and what to do."""
    lock = sqlite3.connect(served.live[A].centre.settings.store.file, isolation_level=None, timeout=60)
    lock.execute("BEGIN IMMEDIATE")
    try:
        anna = await served.signed_in(A, "anna")

        async def told() -> bool:
            begun = time.monotonic()
            page = await anna.get("/")
            soon = time.monotonic() - begun < 5  # SQLite gives a lock up after that
            return page.status_code == 200 and soon and 'class="banner"' in page.text and "locked" in page.text

        await eventually(told)
    finally:
        lock.execute("ROLLBACK")
        lock.close()

    async def mended() -> bool:
        return 'class="banner"' not in (await anna.get("/")).text

    await eventually(mended)


async def test_a_fault_of_a_page_tells_nothing_of_itself(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is answered with its code; its text is in no page, and the stream goes on."""

    async def fail(*_: object) -> object:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr("relay.console.network.network", fail)
    anna = await served.signed_in(A, "anna")
    answer = await anna.get("/")
    assert (answer.status_code, code_of(answer.text)) == (500, "internal-error")
    async with contextlib.aclosing(anna.events("/live/network")) as events:
        regions = [data["region"] async for name, data in _first(events, "shown")]
    assert "internal-error" in regions[0]
    assert "secret" not in answer.text + regions[0]


async def _first(events: AsyncIterator[tuple[str, dict[str, Any]]], wanted: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async for name, data in events:
        if name == wanted:
            yield name, data
            return


async def test_open_pages_do_not_hold_up_the_end(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """When the console stops each open stream comes to its end by itself: none has to be broken off after seconds."""
    anna = await served.signed_in(A, "anna")
    before = len(asyncio.all_tasks())
    heard: list[list[str]] = [[], [], []]
    streams = [asyncio.create_task(_names(anna, "/live/network", until="never", heard=one)) for one in heard]
    await eventually(lambda: all(heard))  # and until streams of before were left
    await eventually(lambda: [one.get_name() for one in asyncio.all_tasks()].count("console feed") == 1)
    await served.stop_surfaces(A)
    await asyncio.wait_for(asyncio.gather(*streams), 60)
    assert "graceful shutdown exceeded" not in caplog.text
    await eventually(lambda: len(asyncio.all_tasks()) <= before)


# Passwords, certificates and settings


async def test_with_a_certificate_the_cookie_is_for_encryption_alone(served: Served, tmp_path: Path) -> None:
    """The console has its own certificate, or the API's; its cookies never go in clear, and no other host can set them."""
    if B not in served.live.nodes:
        await served.live.start(B)
    node, signer = served.live[B], CertificateAuthority.generate("the console's", datetime.now(UTC))
    issued = signer.server(["127.0.0.1"], datetime.now(UTC))
    files = {"ca": signer.issued.certificate, "certificate": issued.certificate, "key": issued.key}
    for name, content in files.items():
        write_private(tmp_path / name, content)
    hire(served.live.network, B, "bea", "watch")
    settings = node.centre.settings
    listen = settings.console.listen
    for section in ("console", "api"):
        given = getattr(settings, section)
        tls = given.tls.model_copy(update={name: tmp_path / name for name in ("certificate", "key")})
        node.centre.settings = settings.model_copy(update={section: given.model_copy(update={"tls": tls})})
        console = Console()
        task = asyncio.create_task(console.run(node))
        try:
            Renewals(node.centre).look()
            assert f'relay_key_expiry_timestamp_seconds{{use="{section}-certificate"}}' in node.centre.metrics.text().decode()
            async with Visitor(f"https://{listen}", tmp_path / "ca") as bea:
                await eventually(bea.answers)
                answer = await bea.sign_in("bea")
                cookie = answer.headers["set-cookie"]
                assert cookie.startswith(f"__Host-relay-session-{B}=")
                assert {"HttpOnly", "Path=/", "SameSite=strict", "Secure"} <= set(cookie.split("; "))
                assert (await bea.get("/")).status_code == 200
                assert (await bea.get("/sign-in", host="console.example")).status_code == 303
                assert (await bea.client.post("/sign-out", headers={"origin": f"http://{listen}"})).status_code == 403
        finally:
            node.centre.settings = settings
            await console.stop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_a_password_is_given_by_command(tmp_path: Path) -> None:
    """`relay token password` takes it from a file; a client that is nobody's own gets none."""
    network = write_network(tmp_path / "net", ("WEBC",))
    config, file = network.node_file("WEBC"), tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    add = ("token", "add", "anna", "--role", "watch", "--person", "Anna Example", "--reason", WHY, "--config", config)
    assert relay(*add)[0] == 0
    give = ("--reason", WHY, "--config", config, "--password-file", file)
    status, out, said = relay("token", "password", "anna", *give)
    assert (status, out) == (0, "")
    assert PASSWORD not in said
    found = {one.name: one for one in Register(network.centre("WEBC") / "clients.json").clients()}
    assert found["anna"].signs_in
    assert passwords.right(PASSWORD, found["anna"].password or "")
    assert found["anna"].why == WHY
    assert "bad-client" in relay("token", "password", "operator", *give)[2]
    file.write_text("short")
    assert "weak-password" in relay("token", "password", "anna", *give)[2]
    assert "password" not in relay("token", "list", "--json", "--config", config)[1]


def test_a_password_is_kept_as_what_is_slow_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time with other salt; the right one is known however its characters were typed; the cost is the recommended one."""
    monkeypatch.undo()
    held = passwords.hashed("naïve façade")
    assert held.startswith("scrypt$")
    assert held != passwords.hashed("naïve façade")
    assert passwords.right("nai\u0308ve fac\u0327ade", held)
    assert not passwords.right("naïve façade ", held)
    assert not passwords.right("naïve façade", passwords.nobodys())


@pytest.mark.parametrize("password", ["", "elevenchars", "x" * 201])
def test_a_password_has_a_length(password: str) -> None:
    """Twelve to 200 characters, and no other rule."""
    with pytest.raises(Refused, match="12 to 200"):
        passwords.hashed(password)


def test_a_clients_file_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    """What is no password's text, or would cost too much to try, is refused when the file is read."""
    good = passwords.hashed(PASSWORD)
    _, _, _, _, salt, digest = good.split("$")
    for bad in (
        "",
        "x",
        f"scrypt$1048576$99$1${salt}${digest}",
        f"scrypt$1000$8$1${salt}${digest}",
        f"{good}=",
        f"bcrypt{good[6:]}",
    ):
        assert not passwords.usable(bad)
        assert not passwords.right(PASSWORD, bad)
    file = Register(tmp_path / "clients.json")
    file.create()
    file.add("anna", ("watch",), person="Anna Example")
    file.add("robot", ("watch",))
    file.set_password("anna", PASSWORD)
    with pytest.raises(Refused, match="no one person"):
        file.set_password("robot", PASSWORD)
    path = tmp_path / "clients.json"
    path.write_text(path.read_text().replace("scrypt$", "scrypt$9"))
    with pytest.raises(Misconfigured, match="password"):
        file.clients()


def test_a_console_for_other_machines_needs_a_certificate(tmp_path: Path) -> None:
    """In clear it is for loopback alone; the node refuses other settings at once."""
    file = tmp_path / "node.toml"
    given = f'centre = "X"\nnetwork = "{"0" * 64}"\n[broker]\nurl = "amqp://X@127.0.0.1/%2F"\n[console]\nlisten = "AT"\n'
    file.write_text(given.replace("AT", "0.0.0.0:8082"))
    with pytest.raises(Misconfigured, match="not encrypted") as refused:
        load(file)
    assert refused.value.code == "console-not-encrypted"
    file.write_text(given.replace("AT", "127.0.0.1:8082"))
    assert load(file).console.listen == "127.0.0.1:8082"
