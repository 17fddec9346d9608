"""The console's pages of queues, messages and requests: what they show, to whom; nothing in a message is more than text."""

from __future__ import annotations

import contextlib
import hashlib
import html
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from relay import messages, passwords
from relay.errors import RelayError
from relay.rabbit import PrivateBroker
from relay.store import record
from relay.views import messages as view
from relay.web import refusals
from tests.console import WHY, Served, code_of, hire, taken
from tests.live import EXAMPLES, Live, eventually, message, private_network

HOME, PEER = CENTRES = ("ROOK", "DOVE")
SCRIPT = '<script>alert("x")</script><img src=x onerror=alert(1)>'
PAGES = ("/queues", "/queues?by=precedence", "/messages", "/requests")


@pytest.fixture(scope="module", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Let passwords that are made here cost less to try."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_N", 2**10)
        yield


class Centre(Served):
    """Nodes with consoles, and the tokens of those who may sign in at HOME."""

    def __init__(self, live: Live, tokens: dict[str, str]) -> None:
        super().__init__(live)
        self.tokens = tokens

    @property
    def api(self) -> str:
        """Where HOME's API is."""
        return f"http://{self.live[HOME].centre.settings.api.listen}"


@pytest.fixture(scope="module")
async def served(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Centre]:
    """Run two nodes, one with its console; refusals are written every half second, open pages looked at as often."""
    network = private_network(tmp_path_factory.mktemp("pages") / "net", broker, "pages", CENTRES)
    people = {"vera": ("watch", "read"), "wim": ("watch",), "otto": ("operate", "audit"), "sam": ("submit", "read")}
    tokens = {name: hire(network, HOME, name, *roles) for name, roles in people.items()}  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refusals, "EVERY_SECONDS", 0.5)
        patch.setenv("RELAY_CONSOLE__LIVE_SECONDS", "0.5")
        patch.setenv("RELAY_CONSOLE__ATTEMPTS_PER_MINUTE", "1000")
        made = Centre(Live(network, broker), tokens)
        try:
            await made.start(HOME)
            await made.live.start(PEER)
            yield made
        finally:
            await made.close()


async def leaves(served: Served, **having: str) -> list[dict[str, Any]]:
    """Return the leaves of the record that have these fields."""
    store = served.live[HOME].centre.store
    rows = await store.read(lambda connection: record.leaves(connection, store.epoch, 0, 100_000))
    return [leaf for leaf in map(json.loads, rows) if all(leaf.get(key) == value for key, value in having.items())]


async def sent(served: Served, **fields: Any) -> str:
    """Send a message that the peer's system takes; return its id."""
    live = served.live
    id_ = (await live.submit(HOME, message(origin=HOME, to=[PEER], **fields))).id
    await taken(live, PEER, id_)
    await live.reaches(HOME, id_, PEER, "delivered")
    await live.reaches(HOME, id_, PEER, "sent")
    return id_


async def came(served: Served, raw: bytes) -> str:
    """Let the peer send a message that HOME's system takes; return its id."""
    id_ = (await served.live.submit(PEER, raw)).id
    await taken(served.live, HOME, id_)
    return id_


def hostile() -> bytes:
    """Return a message with script in every text that may say anything."""
    whole: dict[str, Any] = json.loads((EXAMPLES / "seizure.full.json").read_bytes())
    whole |= {"origin": PEER, "to": [HOME], "exclude": [], "references": [], "classification": "unclassified"}

    def tried(holder: Any, key: Any) -> None:
        before = holder[key]
        holder[key] = SCRIPT
        try:
            messages.parse(json.dumps(whole).encode())
        except RelayError:
            holder[key] = before

    def walk(value: Any) -> None:
        for key, below in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if isinstance(below, str):
                tried(value, key)
            elif isinstance(below, (dict, list)):
                walk(below)

    walk(whole)
    raw = json.dumps(whole).encode()
    assert raw.count(b"onerror") > 5
    return raw


def rows_of(page: str) -> list[str]:
    """Return the rows of a page's first table, their tags left out."""
    table = re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL)[0]
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)]


# Who sees what


@pytest.mark.parametrize("name", ["wim", "otto"])
async def test_who_watches_sees_the_pages_and_others_do_not(served: Served, name: str) -> None:
    """Roles watch, operate and audit open them; submit and read alone do not, and the refusal goes on record."""
    visitor, other = await served.signed_in(HOME, name), await served.signed_in(HOME, "sam")
    id_ = await sent(served)
    for path in (*PAGES, f"/messages/{id_}"):
        assert (await visitor.get(path)).status_code == 200, path
        answer = await other.get(path)
        assert (answer.status_code, code_of(answer.text)) == (403, "not-allowed")

    async def recorded() -> bool:
        return any("sam" in leaf["actor"] for leaf in await leaves(served, step="access-refused", code="not-allowed"))

    await eventually(recorded)


@pytest.mark.parametrize(("language", "heading"), [("fr", "Files d'attente"), ("es", "Colas"), ("en", "Queues")])
async def test_the_pages_speak_the_readers_language(served: Served, language: str, heading: str) -> None:
    """French and Spanish as well as English."""
    visitor = served.visitor(HOME, **{"accept-language": language})
    await visitor.sign_in("wim")
    assert f"<h1>{heading}</h1>" in (await visitor.get("/queues")).text


# The list and one message


async def test_the_list_shows_way_and_state_and_nothing_of_the_content(served: Served) -> None:
    """Time, id, kind, precedence, centres and state; no word of what the message says."""
    id_ = await sent(served, case_number="SECRET-4711")
    page = (await (await served.signed_in(HOME, "wim")).get("/messages")).text
    row = rows_of(page)[0]
    for word in (id_, "seizure", "routine", HOME, PEER, "delivered"):
        assert word in row
    assert "SECRET-4711" not in page


async def test_a_page_of_the_list_leads_to_the_next_with_its_filter(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for stays asked for."""
    for _ in range(3):
        await sent(served, precedence="immediate")
    monkeypatch.setattr(view.messages, "__defaults__", (2,))
    visitor = await served.signed_in(HOME, "wim")
    page = (await visitor.get("/messages?precedence=immediate&direction=sent")).text
    assert len(rows_of(page)) == 2
    following = html.unescape(re.findall(r'href="([^"]+)" rel="next"', page)[0])
    assert following.startswith("/messages?direction=sent&precedence=immediate&before=")
    assert set(rows_of((await visitor.get(following)).text)).isdisjoint(rows_of(page))


async def test_a_filter_that_makes_no_sense_is_answered_with_what_is_wrong(served: Served) -> None:
    """The page of the error says which parameter, and what it takes."""
    answer = await (await served.signed_in(HOME, "wim")).get("/messages?state=lost&id=%3Cscript%3E")
    assert (answer.status_code, code_of(answer.text)) == (422, "bad-request")
    assert "`state`" in answer.text
    assert "<script>" not in answer.text


async def test_the_message_shows_its_matrix_and_its_trail(served: Served) -> None:
    """A row a recipient with the time of each promise and its receipt; the record's entries below."""
    id_ = await sent(served)
    page = (await (await served.signed_in(HOME, "wim")).get(f"/messages/{id_}")).text
    row = rows_of(page)[0]
    assert row.startswith(f"{PEER} ✓ delivered")
    assert row.count("receipt ") == 2
    assert re.findall(r"<td><code>([a-z-]+)</code></td>", page)[0] == "submitted"
    assert "Opening a message needs the role read." in page


async def test_a_message_that_is_not_here_is_told(served: Served) -> None:
    """404 with its code, whatever stands in the address."""
    visitor = await served.signed_in(HOME, "wim")
    for id_ in ("00000000-0000-7000-8000-000000000000", "%3Cscript%3E", "x"):
        answer = await visitor.get(f"/messages/{id_}")
        assert (answer.status_code, code_of(answer.text)) == (404, "not-kept-here")
        assert "<script>" not in answer.text


# The content


async def test_content_needs_the_role_read_and_a_reason(served: Served) -> None:
    """Without the role 403, without a reason or a token nothing; none of these leaves an entry that it was read."""
    id_ = await sent(served)
    action = f"/messages/{id_}/content"
    wim, vera = await served.signed_in(HOME, "wim"), await served.signed_in(HOME, "vera")
    assert action not in (await wim.get(f"/messages/{id_}")).text
    refused = await wim.post(action, csrf="x", reason=WHY)
    assert (refused.status_code, code_of(refused.text)) == (403, "not-allowed")
    forged = await vera.post(action, csrf="x", reason=WHY)
    assert (forged.status_code, code_of(forged.text)) == (403, "bad-csrf")
    empty = await vera.act(f"/messages/{id_}", action, reason=" ")
    assert (empty.status_code, code_of(empty.text)) == (422, "bad-request")
    assert (await vera.get(action)).status_code == 405
    assert await leaves(served, step="content-read") == []


async def test_content_is_shown_as_text_and_is_on_record_first(served: Served) -> None:
    """Who, why and which message stand in the record; the answer is kept by nobody; a form that was used opens nothing again."""
    raw = hostile()
    id_ = await came(served, raw)
    vera = await served.signed_in(HOME, "vera")
    action = f"/messages/{id_}/content"
    token = await vera.token(f"/messages/{id_}", action)
    shown = await vera.post(action, csrf=token, reason=f"{WHY} {SCRIPT}")
    assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-store")
    text = html.unescape(re.findall(r"<pre[^>]*>(.*?)</pre>", shown.text, re.DOTALL)[0])
    assert json.loads(text) == json.loads(raw)
    assert "<script>alert" not in shown.text
    assert "<img" not in shown.text
    leaf = (await leaves(served, step="content-read"))[-1]
    assert (leaf["actor"], leaf["why"], leaf["count"]) == ("vera (Vera Example)", f"{WHY} {SCRIPT}", 1)
    again = await vera.post(action, csrf=token, reason=WHY)
    assert (again.status_code, code_of(again.text)) == (409, "form-used")
    trail = (await vera.get(f"/messages/{id_}")).text
    assert html.escape(SCRIPT, quote=False).split("(")[0] in trail
    assert "<script>alert" not in trail


async def test_what_keeps_a_page_up_to_date_never_carries_content(served: Served) -> None:
    """The stream of a message has its matrix, and neither its content nor the record's entries."""
    id_ = await sent(served, case_number="SECRET-4712")
    vera = await served.signed_in(HOME, "vera")
    await vera.act(f"/messages/{id_}", f"/messages/{id_}/content")
    async with contextlib.aclosing(vera.events(f"/live/messages/{id_}")) as events:
        async for name, data in events:
            if name == "shown":
                assert id_ in data["region"] or PEER in data["region"]
                assert "SECRET-4712" not in data["region"]
                assert "content-read" not in data["region"]
                break


async def test_what_was_purged_is_not_asked_for(served: Served) -> None:
    """After a cancel the peer's copy is gone; a message that is gone here offers no form, and says so when asked all the same."""
    raw = message(origin=PEER, to=[HOME])
    id_ = await came(served, raw)
    vera = await served.signed_in(HOME, "vera")
    action = f"/messages/{id_}/content"
    token = await vera.token(f"/messages/{id_}", action)
    given = json.loads((EXAMPLES / "cancel.minimal.json").read_bytes())
    reference = {"id": id_, "digest": hashlib.sha256(raw).hexdigest(), "relation": "cancels"}
    await came(served, json.dumps({**given, "origin": PEER, "references": [reference]}).encode())
    page = (await vera.get(f"/messages/{id_}")).text
    assert "Its content was purged." in page
    assert "taken back by" in page
    late = await vera.post(action, csrf=token, reason=WHY)
    assert (late.status_code, code_of(late.text)) == (409, "already-purged")


# Queues and requests


async def test_the_queues_page_has_a_row_for_each_peer_that_owes_something(served: Served) -> None:
    """A message that the peer's system has not taken is counted by its age, with the precedence when asked."""
    live = served.live
    id_ = (await live.submit(HOME, message(origin=HOME, to=[PEER], precedence="priority"))).id
    visitor = await served.signed_in(HOME, "wim")

    async def shown() -> bool:
        rows = rows_of((await visitor.get("/queues?by=precedence")).text)
        return any(row.startswith(f"{PEER} priority 1 1") for row in rows)

    await eventually(shown)
    await taken(live, PEER, id_)


async def test_the_requests_page_shows_whose_answer_is_owed(served: Served) -> None:
    """An open request of a peer stands among what is asked of this centre, with the time that is left."""
    given = json.loads((EXAMPLES / "request.minimal.json").read_bytes())
    id_ = await came(served, json.dumps({**given, "origin": PEER, "to": [HOME]}).encode())
    page = (await (await served.signed_in(HOME, "wim")).get("/requests")).text
    row = rows_of(page)[0]
    assert row.startswith(f"{id_} {PEER} no answer yet")
    assert re.search(r" \d+ (d|h|min) ", row)


# The same for programs


async def test_the_api_says_the_same_to_programs(served: Centre) -> None:
    """A message's way and the queues as JSON; who only submits sees the way of what this centre sent, and of no other."""
    id_, received = await sent(served), await came(served, message(origin=PEER, to=[HOME]))
    answers: dict[str, list[int]] = {}
    for name in ("sam", "wim"):
        headers = {"authorization": f"Bearer {served.tokens[name]}"}
        async with httpx2.AsyncClient(base_url=served.api, headers=headers, timeout=60, trust_env=False) as client:
            paths = (f"/v1/messages/{id_}/way", f"/v1/messages/{received}/way", "/v1/queues")
            answers[name] = [(await client.get(path)).status_code for path in paths]
            if name == "wim":
                way = (await client.get(paths[0])).json()
                assert (way["recipients"][0]["state"], way["submitted_at"][-1]) == ("delivered", "Z")
    assert answers == {"sam": [200, 404, 403], "wim": [200, 200, 200]}
