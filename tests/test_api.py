"""The local API end to end: real nodes, a real RabbitMQ, and every refusal that the API owes its callers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from uuid import uuid4

import httpx2
import pytest

from relay import api
from relay import node as nodes_own
from relay.api import Api, app
from relay.clock import iso
from relay.codes import LISTS, label_lists
from relay.deadlines import Alarm
from relay.errors import Busy, StoreTrouble, catalogue
from relay.messages import MODELS
from relay.network import Network, write_network
from relay.node import Node, open_node
from relay.observation import Lane, Peer, SetAside
from relay.rabbit import Management, PrivateBroker
from relay.settings import load
from relay.store import outgoing, record
from relay.web import listener
from tests.live import eventually, serving

SCHEMAS = Path(__file__).parent.parent / "schemas"
ALERT: dict[str, Any] = json.loads((SCHEMAS / "examples" / "alert.minimal.json").read_bytes())
SEIZURE: dict[str, Any] = json.loads((SCHEMAS / "examples" / "seizure.full.json").read_bytes())
UNKNOWN = "00000000-0000-7000-8000-000000000000"

CENTRES = ("WEST", "EAST", "SOUTH")

Ask = Callable[..., httpx2.AsyncClient]


@pytest.fixture(scope="module")
def offices(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Write a network of three centres, on a virtual host of its own of the run's one RabbitMQ."""
    with httpx2.Client(base_url=broker.management_url, auth=(broker.admin, broker.password), trust_env=False) as client:
        client.put("/api/vhosts/offices").raise_for_status()
    amqp = broker.url().replace("%2F", "offices")
    network = write_network(tmp_path_factory.mktemp("api") / "net", CENTRES, amqp, management=broker.management_url)
    with Management(broker.management_url, broker.admin, broker.password, vhost="offices") as management:
        # Accounts are the whole broker's: those of other tests' networks stay.
        plan = [change for change in management.plan(network.topology, network.passwords) if change.action != "remove"]
        management.apply(plan, network.passwords)
    return network


@pytest.fixture(scope="module")
async def nodes(offices: Network) -> AsyncIterator[dict[str, Node]]:
    """Run the nodes of the three centres with their APIs, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HEADER", "BODY"):  # a machine that stalls is no slow caller
            patch.setenv(f"RELAY_API__{name}_SECONDS", "90")
        settings = {id_: load(offices.node_file(id_)) for id_ in CENTRES}
    async with serving(settings) as running:
        yield running


@pytest.fixture(scope="module")
async def ask(nodes: dict[str, Node], offices: Network) -> AsyncIterator[Ask]:
    """Return what gives a client of a centre's API: ``ask("WEST", "operator")``; without a role it brings no token."""
    clients: dict[tuple[str, str | None], httpx2.AsyncClient] = {}

    def client(centre: str, role: Literal["system", "operator"] | None = "system") -> httpx2.AsyncClient:
        if (centre, role) not in clients:
            headers = {"Authorization": f"Bearer {offices.token(centre, role)}"} if role else {}
            url = f"http://{nodes[centre].centre.settings.api.listen}"
            clients[centre, role] = httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)
        return clients[centre, role]

    yield client
    for one in clients.values():
        await one.aclose()


def seizure_of_a_ship(imo: str) -> bytes:
    """Return a full seizure whose ship has this number."""
    ships = [{**SEIZURE["conveyances"][0], "imo": imo}, *SEIZURE["conveyances"][1:]]
    return json.dumps({**SEIZURE, "origin": "WEST", "conveyances": ships}).encode()


def alert(**fields: Any) -> bytes:
    """Return a valid alert to EAST, on one line, with these fields changed; None leaves a field out."""
    given = {**ALERT, "to": ["EAST"], **fields}
    return json.dumps({name: value for name, value in given.items() if value is not None}).encode()


async def sent(ask: Ask, raw: bytes, centre: str = "WEST", **headers: str) -> dict[str, Any]:
    """Submit a message that is taken; return the answer."""
    answer = await ask(centre).post("/v1/messages", content=raw, headers=headers)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def received(ask: Ask, centre: str, message_id: str) -> dict[str, Any]:
    """Wait until a message is in a centre's inbox and return it."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        answer = await ask(centre).get("/v1/inbox", params={"limit": 1000, "wait": 1})
        for one in answer.json()["messages"]:
            if one["id"] == message_id:
                found: dict[str, Any] = one
                return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{message_id} never reached {centre}")


async def state(ask: Ask, message_id: str, centre: str, wanted: str) -> dict[str, Any]:
    """Wait until the sender sees a state at a recipient; return what it sees of that recipient."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        answer = await ask("WEST").get(f"/v1/messages/{message_id}")
        found: dict[str, Any] = next(one for one in answer.json()["recipients"] if one["centre"] == centre)
        if found["state"] == wanted:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{message_id} is not {wanted} at {centre}, but {found}")


async def emptied(ask: Ask, centre: str) -> None:
    """Acknowledge everything in a centre's inbox."""
    while messages := (await ask(centre).get("/v1/inbox", params={"limit": 1000})).json()["messages"]:
        await ask(centre).post("/v1/inbox/ack", json={"ids": [one["id"] for one in messages]})


async def well(ask: Ask, centre: str = "WEST") -> dict[str, Any]:
    """Wait until a node is ready, as it is but for a moment after the machine stalled; return what it says of itself then."""
    said: dict[str, Any] = {}

    async def ready() -> bool:
        said.update((await ask(centre, "operator").get("/v1/health")).json())
        return bool(said["ready"])

    await eventually(ready)
    return said


async def newest(node: Node) -> str | None:
    """Return the id of the last message that a node stored."""
    found = await node.centre.store.read(lambda connection: outgoing.messages(connection, None, 1))
    return found[0].id if found else None


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document of this status and code, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found.keys() - {"errors"} == {"type", "title", "status", "detail", "code"}
    assert (found["code"], found["status"]) == (code, status)
    assert found["type"] == f"urn:intercentre-relay:error:{code}"
    assert found["detail"]
    return found


# The way of a message


async def test_a_message_goes_from_a_centres_system_to_anothers_and_its_sender_sees_every_step(ask: Ask) -> None:
    """Submitted, taken byte for byte elsewhere, acknowledged there, and seen as delivered with its history."""
    raw = alert(text="Two  spaces and\ttabs stay, and so does   the order of keys.")
    answer = await ask("WEST").post("/v1/messages", content=raw)
    assert answer.status_code == 202
    promised = answer.json()
    assert promised.keys() == {"id", "recipients", "status"}
    assert promised["recipients"] == ["EAST"]
    assert answer.headers["location"] == promised["status"] == f"/v1/messages/{promised['id']}"
    arrived = await received(ask, "EAST", promised["id"])
    assert arrived.keys() == {"id", "origin", "received_at", "handling", "message"}
    assert arrived["origin"] == "WEST"
    inbox = await ask("EAST").get("/v1/inbox", params={"limit": 1000})
    assert raw in inbox.content
    await state(ask, promised["id"], "EAST", "accepted")
    done = await ask("EAST").post("/v1/inbox/ack", json={"ids": [promised["id"]]})
    assert done.json() == {"delivered": 1, "unknown": [], "unconfirmed": []}
    seen = await state(ask, promised["id"], "EAST", "delivered")
    assert [step["state"] for step in seen["history"]] == ["queued", "sent", "accepted", "delivered"]
    assert all(step["at"].endswith("Z") for step in seen["history"])
    inbox = await ask("EAST").get("/v1/inbox", params={"limit": 1000})
    assert promised["id"] not in inbox.text


async def test_what_is_not_acknowledged_is_given_again_and_acknowledging_twice_changes_nothing(ask: Ask) -> None:
    """The inbox is no queue that forgets: only the system's word empties it, and that word may be said twice."""
    sent_ = await sent(ask, alert())
    await received(ask, "EAST", sent_["id"])
    await received(ask, "EAST", sent_["id"])
    ids = {"ids": [sent_["id"], UNKNOWN]}
    first = await ask("EAST").post("/v1/inbox/ack", json=ids)
    again = await ask("EAST").post("/v1/inbox/ack", json=ids)
    assert first.json() == {"delivered": 1, "unknown": [UNKNOWN], "unconfirmed": []}
    assert again.json() == {"delivered": 0, "unknown": [UNKNOWN], "unconfirmed": []}


async def test_a_long_poll_is_answered_as_soon_as_a_message_comes(ask: Ask) -> None:
    """Whoever waits 60 s for a message has it as it comes; whoever waits in vain gets an empty list."""
    await emptied(ask, "SOUTH")
    started = time.monotonic()
    nothing = await ask("SOUTH").get("/v1/inbox", params={"wait": 0.3})
    assert nothing.json() == {"messages": []}
    assert 0.25 < time.monotonic() - started < 40
    waiting = asyncio.create_task(ask("SOUTH").get("/v1/inbox", params={"wait": 60}))
    await asyncio.sleep(0.3)
    submitted = time.monotonic()
    promise = await sent(ask, alert(to=["SOUTH"]))
    answer = await waiting
    assert time.monotonic() - submitted < 40
    assert [one["id"] for one in answer.json()["messages"]] == [promise["id"]]


async def test_the_messages_of_a_centre_are_listed_newest_first_page_by_page(ask: Ask) -> None:
    """An operator walks back through what was submitted without seeing anything twice."""
    ids = [(await sent(ask, alert()))["id"] for _ in range(3)]
    first = (await ask("WEST", "operator").get("/v1/messages", params={"limit": 2})).json()
    assert [one["id"] for one in first["messages"]] == [ids[2], ids[1]]
    assert first["next"] == ids[1]
    second = (await ask("WEST", "operator").get("/v1/messages", params={"limit": 1, "before": first["next"]})).json()
    assert [one["id"] for one in second["messages"]] == [ids[0]]
    assert second["messages"][0].keys() == {"id", "submitted_at", "lane", "recipients"}


@pytest.mark.parametrize("message_id", [UNKNOWN, "not-a-uuid", "..%2F..", UNKNOWN.upper() + "x"])
async def test_an_unknown_message_is_not_found(ask: Ask, message_id: str) -> None:
    """An id that nothing was submitted under is a 404, whatever it looks like."""
    answer = await ask("WEST").get(f"/v1/messages/{message_id}")
    problem(answer, 404, "unknown-address" if "%2F" in message_id else "unknown-message")


# Idempotency


async def test_the_same_key_with_the_same_body_is_the_same_message(ask: Ask, nodes: dict[str, Node]) -> None:
    """A submitter that heard no answer may ask again; nothing is sent twice."""
    key = {"Idempotency-Key": uuid4().hex}
    first = await sent(ask, alert(), **key)
    last = await newest(nodes["WEST"])
    assert await sent(ask, alert(), **key) == first
    assert await newest(nodes["WEST"]) == last


async def test_the_same_key_with_another_body_is_a_conflict(ask: Ask) -> None:
    """A key that stands for one message never becomes another."""
    key = {"Idempotency-Key": uuid4().hex}
    first = await sent(ask, alert(), **key)
    answer = await ask("WEST").post("/v1/messages", content=alert(headline="Something else"), headers=key)
    assert first["id"] in problem(answer, 409, "idempotency-conflict")["detail"]


async def test_requests_under_one_key_at_the_same_time_are_one_message(ask: Ask) -> None:
    """Twenty hasty retries at once get one id."""
    key = {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(*(sent(ask, alert(), **key) for _ in range(20)))
    assert len({answer["id"] for answer in answers}) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "caf\xe9"])
async def test_a_bad_idempotency_key_is_refused(ask: Ask, key: str) -> None:
    """A key that could be cut or changed on its way is refused before it stands for anything."""
    answer = await ask("WEST").post("/v1/messages", content=alert(), headers={"Idempotency-Key": key.encode("latin-1")})
    problem(answer, 400, "bad-idempotency-key")


# Batches


async def test_bad_lines_of_a_batch_harm_no_good_ones(ask: Ask, nodes: dict[str, Node]) -> None:
    """Each line has its own answer, in order, under its number in the body; blank lines are none."""
    lines = [alert(), b"", b"{", alert(crime_types=["gossip"]), alert() + b"\r", b"  ", alert(to=["NOBODY"]), alert()]
    answer = await ask("WEST").post("/v1/messages/batch", content=b"\n".join(lines) + b"\n")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert [one["line"] for one in said] == [1, 3, 4, 5, 7, 8]
    good = [one for one in said if "id" in one]
    assert [one["line"] for one in good] == [1, 5, 8]
    assert all(one["recipients"] == ["EAST"] for one in good)
    codes = {one["line"]: one["problem"]["code"] for one in said if "problem" in one}
    assert codes == {3: "not-json", 4: "unknown-crime-type", 7: "unknown-recipient"}
    assert {one["id"] for one in good} == await stored(nodes["WEST"], [one["id"] for one in good])


async def stored(node: Node, ids: list[str]) -> set[str]:
    """Return which of these ids a node's store knows."""
    found = [await node.centre.store.read(lambda c, id_=id_: outgoing.message(c, id_)) for id_ in ids]  # type: ignore[misc]
    return {one.id for one in found if one is not None}


async def test_a_batch_sent_again_under_its_key_is_the_same_messages(ask: Ask) -> None:
    """Line n has the key K/n, so a whole batch may be tried again."""
    key = {"Idempotency-Key": uuid4().hex}
    content = b"\n".join([alert(headline=f"Line {n}") for n in range(100)])
    first = await ask("WEST").post("/v1/messages/batch", content=content, headers=key)
    again = await ask("WEST").post("/v1/messages/batch", content=content, headers=key)
    assert first.text == again.text
    assert len(first.text.splitlines()) == 100


async def test_a_line_over_the_limit_is_a_problem_of_that_line(ask: Ask) -> None:
    """One huge line does not spoil the batch."""
    huge = alert(text="x" * 7_000_000)
    answer = await ask("WEST").post("/v1/messages/batch", content=b"\n".join([alert(), huge, alert()]))
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert [one.get("problem", {}).get("code") for one in said] == [None, "too-large", None]
    assert said[1]["problem"]["status"] == 413


async def test_a_batch_over_its_limits_or_without_a_line_is_refused_as_a_whole(ask: Ask, nodes: dict[str, Node]) -> None:
    """Too many lines, too many bytes, or nothing at all: one problem, nothing stored."""
    before = await newest(nodes["WEST"])
    url = "/v1/messages/batch"
    problem(await ask("WEST").post(url, content=b"{}\n" * 10_001), 413, "too-many-lines")
    problem(await ask("WEST").post(url, content=b"\n" * 10_002), 413, "too-many-lines")
    problem(await ask("WEST").post(url, content=b" " * (64 * 1024 * 1024 + 1)), 413, "too-large")
    problem(await ask("WEST").post(url, content=b"\n \n"), 422, "empty")
    assert await newest(nodes["WEST"]) == before


# Bad input

DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
BAD = {
    "a missing mark": (alert(tlp=None), 422, "missing-field"),
    "an unknown crime type": (alert(crime_types=["gossip"]), 422, "unknown-crime-type"),
    "a wrong check digit": (seizure_of_a_ship("9700111"), 422, "check-digit"),
    "10 MB of JSON": (alert(text="x" * 10_000_000), 413, "too-large"),
    "duplicate keys": (alert()[:-1] + b',"tlp":"RED"}', 400, "duplicate-key"),
    "NaN": (alert(nominal=float("nan")), 400, "not-finite"),
    "a lone surrogate": (alert(headline="\ud800"), 400, "lone-surrogate"),
    "depth 10,000": (DEEP, 400, "too-deep"),
    "an unknown field": (alert(rumour=True), 422, "unknown-field"),
    "an unknown recipient": (alert(to=["NOBODY"]), 422, "unknown-recipient"),
    "NUL": (alert(headline="a\0b"), 400, "nul"),
    "UTF-16": (alert().decode().encode("utf-16"), 400, "not-utf8"),
    "a top-level list": (b"[" + alert() + b"]", 400, "not-an-object"),
    "not JSON": (b"hello", 400, "not-json"),
    "nothing": (b"", 400, "not-json"),
    "an empty recipient list": (alert(to=[]), 422, "empty"),
    "no recipient left": (alert(to=None, exclude=["EAST", "SOUTH"]), 422, "no-recipients"),
    "another centre's origin": (alert(origin="EAST"), 422, "other-origin"),
    "a deadline in the past": (alert(expires_at="2020-01-01T00:00:00Z"), 422, "bad-deadline"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_with_a_code_and_nothing_stored(ask: Ask, nodes: dict[str, Node], name: str) -> None:
    """Each bad input of the list is a coded problem, leaves the store as it was, and the node well."""
    raw, status, code = BAD[name]
    before = await newest(nodes["WEST"])
    answer = await ask("WEST").post("/v1/messages", content=raw)
    found = problem(answer, status, code)
    assert [one["code"] for one in found["errors"]] == [code]
    assert await newest(nodes["WEST"]) == before
    await well(ask)


async def test_all_that_is_wrong_is_told_at_once(ask: Ask) -> None:
    """The problem lists every place with its pointer, code and sentence."""
    answer = await ask("WEST").post("/v1/messages", content=alert(crime_types=["gossip"], rumour=1, tlp=None))
    found = problem(answer, 422, "invalid-message")
    assert {one["pointer"]: one["code"] for one in found["errors"]} == {
        "/crime_types/0": "unknown-crime-type",
        "/rumour": "unknown-field",
        "/tlp": "missing-field",
    }
    assert all(one.keys() == {"pointer", "code", "detail"} for one in found["errors"])


async def test_a_refusal_is_counted_and_recorded_with_who_asked(ask: Ask, nodes: dict[str, Node]) -> None:
    """Each refused request leaves a metric and one audit leaf per code, and no content."""
    centre = nodes["WEST"].centre
    counter = centre.metrics.refused.labels("not-json")
    before = counter._value.get()
    size = await centre.store.read(lambda connection: record.size(connection, centre.store.epoch))
    await ask("WEST").post("/v1/messages/batch", content=b"{\n{\nsecret\n")
    assert counter._value.get() == before + 3
    leaves = await centre.store.read(lambda connection: record.leaves(connection, centre.store.epoch, size))
    (raw,) = (one for one in leaves if json.loads(one)["step"] == "refused")  # receipts of peers come in between
    leaf = json.loads(raw)
    assert (leaf["step"], leaf["code"], leaf["actor"]) == ("refused", "not-json", "system")
    assert not any(b"secret" in one for one in leaves)


async def test_a_body_that_does_not_come_is_not_waited_for(
    nodes: dict[str, Node], offices: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that stops in the middle is told so when its time is over, and the connection is closed."""
    centre = nodes["WEST"].centre
    settings = centre.settings
    impatient = settings.model_copy(update={"api": settings.api.model_copy(update={"body_seconds": 0.3})})
    monkeypatch.setattr(centre, "settings", impatient)
    host, port = settings.api.listen.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    token = offices.token("WEST", "system")
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n{{"
    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"body-timeout"' in answer


async def test_a_full_node_says_when_to_come_back(ask: Ask, nodes: dict[str, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the soft limit 429, at the disk floor 507, both with Retry-After, for one message and for a batch."""
    for trouble, status in ((Busy("outbox-full", "Many wait."), 429), (StoreTrouble("disk-full", "No disk."), 507)):
        monkeypatch.setattr(nodes["WEST"], "full", lambda trouble=trouble: trouble)
        for path in ("/v1/messages", "/v1/messages/batch"):
            answer = await ask("WEST").post(path, content=alert())
            problem(answer, status, trouble.code)
            assert int(answer.headers["retry-after"]) >= 1


async def test_an_unexpected_error_says_nothing_of_itself(
    ask: Ask, nodes: dict[str, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the node is a plain 500 with a code; what went wrong stays in the node."""

    async def broken(*_: object) -> None:
        raise ValueError("secret")

    monkeypatch.setattr(nodes["WEST"].handover, "take", broken)
    answer = await ask("WEST").get("/v1/inbox")
    problem(answer, 500, "internal-error")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown-address"),
        ("DELETE", "/v1/inbox", 405, "method-not-allowed"),
        ("GET", "/v1/inbox?limit=0", 422, "bad-request"),
        ("GET", "/v1/inbox?limit=1001", 422, "bad-request"),
        ("GET", "/v1/inbox?wait=61", 422, "bad-request"),
        ("GET", "/v1/inbox?wait=nan", 422, "bad-request"),
        ("POST", "/v1/inbox/ack", 422, "bad-request"),
    ],
)
async def test_the_frameworks_own_refusals_have_the_same_form(ask: Ask, method: str, path: str, status: int, code: str) -> None:
    """No such address, wrong method, wrong parameter: problem documents like all others."""
    problem(await ask("WEST").request(method, path), status, code)


@pytest.mark.parametrize("ids", [[], ["x"], [1], [UNKNOWN] * 1001, "x", None])
async def test_a_bad_acknowledgement_is_refused(ask: Ask, ids: object) -> None:
    """An acknowledgement names 1 to 1000 ids."""
    found = problem(await ask("EAST").post("/v1/inbox/ack", json={"ids": ids}), 422, "bad-request")
    assert found["errors"][0]["pointer"].startswith("/ids")


# Who may what

SYSTEM = [
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/batch"),
    ("GET", "/v1/inbox"),
    ("POST", "/v1/inbox/ack"),
]
OPERATOR = [("GET", "/v1/messages"), ("GET", "/v1/health")]
EITHER = [
    ("GET", "/v1/codes"),
    ("GET", f"/v1/messages/{UNKNOWN}"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
]


@pytest.mark.parametrize(("method", "path"), [*SYSTEM, *OPERATOR, *EITHER, ("GET", "/nothing")])
async def test_nobody_gets_in_without_a_token(ask: Ask, method: str, path: str) -> None:
    """No token, a wrong one, another scheme: 401 and how to do better, also where there is nothing."""
    for header in ("", "Bearer", "Bearer wrong", "Bearer \xe9", "Token x", "Basic !!!", "Basic eDp5"):
        answer = await ask("WEST", None).request(method, path, headers={"Authorization": header.encode("latin-1")})
        problem(answer, 401, "not-authenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("role", "method", "path"), [*(("operator", *one) for one in SYSTEM), *(("system", *one) for one in OPERATOR)]
)
async def test_a_role_may_not_do_the_others_work(ask: Ask, role: str, method: str, path: str) -> None:
    """The operator neither submits nor takes messages; the system does not look into the node."""
    problem(await ask("WEST", role).request(method, path), 403, "not-allowed")


@pytest.mark.parametrize("role", ["system", "operator"])
@pytest.mark.parametrize(("method", "path"), EITHER)
async def test_some_things_both_roles_may_see(ask: Ask, role: str, method: str, path: str) -> None:
    """Metrics, contract and a message's state are for both."""
    assert (await ask("WEST", role).request(method, path)).status_code in {200, 404}


async def test_basic_opens_the_pages_and_nothing_else(ask: Ask, offices: Network) -> None:
    """A browser may show the docs with the token as password; a foreign page can't make it submit."""
    auth = httpx2.BasicAuth("anybody", offices.token("WEST", "system"))
    assert (await ask("WEST", None).get("/docs", auth=auth)).status_code == 200
    problem(await ask("WEST", None).post("/v1/messages", content=alert(), auth=auth), 401, "not-authenticated")


async def test_a_centres_token_opens_no_other_centre(ask: Ask, offices: Network) -> None:
    """Tokens are a node's own."""
    headers = {"Authorization": f"Bearer {offices.token('EAST', 'system')}"}
    problem(await ask("WEST", None).get("/v1/inbox", headers=headers), 401, "not-authenticated")


# How the node does, and what the API says of itself


async def test_a_supervisor_learns_one_word_without_a_token(ask: Ask, offices: Network) -> None:
    """/livez and /readyz say yes, and nothing more, on a listener that answers nothing else."""

    async def ready() -> bool:
        return (await ask("WEST", None).get(f"http://{offices.health('WEST')}/readyz")).status_code == 200

    await eventually(ready)
    for path in ("/livez", "/readyz"):
        answer = await ask("WEST", None).get(f"http://{offices.health('WEST')}{path}")
        assert (answer.status_code, answer.text) == (200, "yes")
        problem(await ask("WEST", None).get(path), 401, "not-authenticated")
    for path in ("/metrics", "/v1/health", "/docs"):
        assert (await ask("WEST", "operator").get(f"http://{offices.health('WEST')}{path}")).status_code == 404


async def test_no_route_of_the_api_answers_where_no_token_is_asked_for(ask: Ask, offices: Network) -> None:
    """On the health listener no route exists but the two, with a token or without, by any method, however the path is written."""
    aside = f"http://{offices.health('WEST')}"
    routes = {(method, route.path.replace("{", "").replace("}", "")) for route in app.routes() for method in route.methods}
    assert len(routes) > 40
    for name in ("operator", None):
        client = ask("WEST", name)
        for method, path in sorted(routes):
            for spelled in (path, f"/{path}", f"/livez/..{path}", f"/livez{path}"):
                answer = await client.request(method, aside + spelled)
                assert (answer.status_code, answer.text) == (404, "Not Found"), (method, spelled)
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            for path in ("/livez", "/readyz"):
                assert (await client.request(method, aside + path)).status_code == 405


async def test_the_operator_sees_sentences_and_numbers(ask: Ask) -> None:
    """Behind the word: what is wrong, how much waits, how long the directory holds."""
    health: dict[str, Any] = {}

    async def idle() -> bool:  # what was sent before is gone
        health.update(await well(ask))
        return bool(health["unsent_envelopes"] == 0)

    await eventually(idle)
    assert health["ready"] is True
    assert health["problems"] == []
    assert health["broker_connected"] is True
    assert health["directory_version"] == 1
    assert health["epoch"] > 0
    assert health["unsent_envelopes"] == 0


async def test_how_much_waits_is_not_counted_for_each_who_asks(ask: Ask, nodes: dict[str, Node]) -> None:
    """The counts are those that the node last saw, with the time of its look; before the first one they are not known."""
    observer = nodes["WEST"].observer
    before = await observer.look()
    async with observer._looking:  # it looks no more until the end of this
        lane = Lane("EAST", "flash", 1_000_000, (0, 0, 0, 0, 0, 0, 1_000_000), before.at)
        observer.latest = replace(before, peers=(Peer("EAST", (lane,)),), waiting=7, received_aside=SetAside(quarantined=3))
        health = (await ask("WEST", "operator").get("/v1/health")).json()
        names = ("open_messages", "waiting_messages", "quarantined_messages")
        assert [health[name] for name in names] == [1_000_000, 7, 3]
        assert health["observed_at"] == iso(before.at)
        observer.latest = None
        health = (await ask("WEST", "operator").get("/v1/health")).json()
        assert [health[name] for name in (*names, "observed_at")] == [None] * 4
        observer.latest = before


async def test_prometheus_gets_its_text(ask: Ask) -> None:
    """The metrics come in Prometheus' own format."""
    answer = await ask("WEST", "operator").get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "relay_refused_messages_total" in answer.text


async def test_stopping_answers_waiting_polls_and_frees_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that stops keeps nobody waiting, takes nobody in any more, and a second one may listen where it did."""
    monkeypatch.setattr(nodes_own, "STOP_SECONDS", 50)  # what a stalled machine breaks off is not answered
    monkeypatch.setattr(listener, "FINISH_SECONDS", 50)
    network = write_network(tmp_path / "net", ("AAA",))
    headers = {"Authorization": f"Bearer {network.token('AAA', 'system')}"}
    url = f"http://{network.listen('AAA')}"
    for _ in range(2):
        node = await open_node(load(network.node_file("AAA")))
        running = asyncio.create_task(node.run(Api()))
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            try:
                await eventually(lambda: answers(client))
                assert (await client.get(f"http://{network.health('AAA')}/readyz")).text == "no"
                waiting = asyncio.create_task(client.get("/v1/inbox", params={"wait": 60}))
                await asyncio.sleep(0.2)
                started = time.monotonic()
                node.stop()
                assert (await waiting).json() == {"messages": []}
                assert time.monotonic() - started < 30
            finally:
                node.stop()
                await running
            assert not await answers(client)


async def answers(client: httpx2.AsyncClient) -> bool:
    """Return whether somebody listens."""
    try:
        return (await client.get("/v1/codes")).status_code == 200
    except httpx2.ConnectError:
        return False


async def test_a_node_whose_clients_file_is_no_good_does_not_start(tmp_path: Path) -> None:
    """Two clients with one token, a role that is none, half a file, none at all: no boundary, so no node."""
    network = write_network(tmp_path / "net", ("AAA",))
    file = network.centre("AAA") / "clients.json"
    whole = file.read_text()
    for content in (
        re.sub(r'"token_sha256": "[0-9a-f]{64}"', f'"token_sha256": "{"0" * 64}"', whole),
        whole.replace('"operate"', '"everything"'),
        whole[:-20],
        None,
    ):
        file.write_text(content) if content is not None else file.unlink()
        node = await open_node(load(network.node_file("AAA")))
        with pytest.raises(ExceptionGroup) as stopped:
            await node.run(Api())
        assert [error.code for error in stopped.value.exceptions] == ["bad-clients-file"]


class Links(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note every address."""
        self.found += [value or "" for name, value in attrs if name in {"href", "src", "action", "data"}]
        assert tag not in {"iframe", "object", "base"}


async def test_the_docs_load_nothing_from_elsewhere(ask: Ask) -> None:
    """Every address of the page is this node's, every one is there, and the policy forbids the browser all others."""
    page = await ask("WEST").get("/docs")
    links = Links()
    links.feed(page.text)
    loaded = [link for link in links.found if not link.startswith("data:")]
    assert len(loaded) == 3
    for link in [*loaded, "/docs/openapi.json"]:
        assert link.startswith("/docs/")
        assert (await ask("WEST").get(link)).status_code == 200
    assert "://" not in page.text
    assert "://" not in (await ask("WEST").get("/docs/start.js")).text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "http" not in policy


def test_the_published_contract_is_that_of_the_code() -> None:
    """schemas/openapi.json is what the code says."""
    assert json.loads((SCHEMAS / "openapi.json").read_bytes()) == api.openapi()


async def test_the_contract_names_every_route_and_resolves(ask: Ask) -> None:
    """Every path has its answers, its problem form and a sentence; every reference leads somewhere."""
    contract = (await ask("WEST").get("/openapi.json")).json()
    assert contract["openapi"].startswith("3.1")
    for path, methods in contract["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert "default" in operation["responses"], path
    text = json.dumps(contract)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}:
        assert reference in contract["components"]["schemas"]
    assert contract["components"]["schemas"]["Message"]["discriminator"]["mapping"].keys() == MODELS.keys()


def test_every_code_of_the_api_is_explained() -> None:
    """The titles of problem documents come from the catalogue."""
    codes = ("not-authenticated", "not-allowed", "unknown-message", "bad-idempotency-key", "body-timeout", "internal-error")
    assert set(codes) <= catalogue().keys()


async def explained(ask: Ask, raw: bytes, role: Literal["system", "operator"] = "operator") -> dict[str, Any]:
    """Ask WEST's node who would get a message."""
    answer = await ask("WEST", role).post("/v1/policy/explain", content=raw)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_policy_says_who_would_get_a_message_and_the_rule_that_decides(ask: Ask, nodes: dict[str, Node]) -> None:
    """For every centre of the node's directory, and what is explained is what happens; nothing is stored by asking."""
    before = await newest(nodes["WEST"])
    for fields, rules in (
        ({"to": None}, {"WEST": "origin", "EAST": "entitled", "SOUTH": "entitled"}),
        ({}, {"WEST": "origin", "EAST": "named", "SOUTH": "not-named"}),
        ({"to": None, "exclude": ["SOUTH"]}, {"WEST": "origin", "EAST": "entitled", "SOUTH": "excluded"}),
    ):
        found = await explained(ask, alert(**fields))
        assert {one["centre"]: one["rule"] for one in found["centres"]} == rules
        assert (found["kind"], found["refused"], found["note"]) == ("alert", [], None)
    assert await newest(nodes["WEST"]) == before
    said = await sent(ask, alert(to=None, exclude=["SOUTH"]))
    assert said["recipients"] == [one["centre"] for one in found["centres"] if one["gets"]]


async def test_policy_tells_why_a_message_would_be_refused(ask: Ask) -> None:
    """Every reason is told beside the centres; a message that is not valid is a problem as when it is submitted."""
    found = await explained(ask, alert(to=["SOUTH", "NOBODY"], classification="secret", origin="EAST"), "system")
    codes = {(one["pointer"], one["code"]) for one in found["refused"]}
    assert codes == {("/origin", "other-origin"), ("/to/0", "recipient-not-entitled"), ("/to/1", "unknown-recipient")}
    assert {one["rule"] for one in found["centres"]} == {"origin", "not-named", "clearance"}
    bad = await ask("WEST").post("/v1/policy/explain", content=alert(tlp="MAUVE", grading=None))
    assert {one["pointer"] for one in problem(bad, 422, "invalid-message")["errors"]} == {"/tlp", "/grading"}


async def test_policy_explains_updates_and_recalls_and_passes_doubts_on(ask: Ask) -> None:
    """A recall reaches whoever held the message, an update the entitled; what looks doubtful is told as well."""
    for kind, rule in (("update", "entitled"), ("cancel", "recall")):
        raw = json.loads((SCHEMAS / "examples" / f"{kind}.minimal.json").read_bytes())
        found = await explained(ask, json.dumps(raw).encode())
        assert "everyone who ever held" in found["note"]
        assert {one["rule"] for one in found["centres"]} == {"origin", rule}
        assert found["refused"] == []
    goods = [{**SEIZURE["commodities"][0], "quantity": {"amount": 0.001, "unit": "KGM"}}]
    doubtful = json.dumps({**SEIZURE, "origin": "WEST", "to": None, "exclude": [], "commodities": goods}).encode()
    assert "doubtful-quantity" in {one["code"] for one in (await explained(ask, doubtful))["warnings"]}


async def test_the_attachments_that_policy_takes_are_those_of_the_settings(ask: Ask, nodes: dict[str, Node]) -> None:
    """The node's bounds hold where a message is only looked at, too."""
    centre = nodes["WEST"].centre
    content = base64.b64encode(b"x" * 2000).decode()
    kind, digest = next(iter(LISTS["media_types"].codes)), hashlib.sha256(b"x" * 2000).hexdigest()
    attached = {"media_type": kind, "digest": digest, "content": content}
    assert not (await explained(ask, alert(attachments=[attached])))["refused"]
    settings = centre.settings
    limits = settings.limits.model_copy(update={"attachment_bytes": 1000})
    centre.settings = settings.model_copy(update={"limits": limits})
    try:
        answer = await ask("WEST").post("/v1/policy/explain", content=alert(attachments=[attached]))
        problem(answer, 413, "attachment-too-large")
    finally:
        centre.settings = settings


async def test_a_code_list_is_given_in_the_language_that_is_asked_for(ask: Ask) -> None:
    """Labels in English, French, Spanish or Arabic by `Accept-Language`, and the answer says which."""
    for accept, language, label in (
        (None, "en", "Cocaine"),
        ("fr-CA, en;q=0.5", "fr", "Cocaïne"),
        ("de, es;q=0.3", "es", "Cocaína"),
        ("ar", "ar", "الكوكايين"),
    ):
        headers = {"Accept-Language": accept} if accept else {}
        answer = await ask("EAST").get("/v1/codes/crime_types", headers=headers)
        found = answer.json()
        assert (answer.headers["content-language"], found["language"]) == (language, language)
        assert answer.headers["vary"] == "Accept-Language"
        assert {"code": "drugs.cocaine", "label": label} in found["codes"]
    hours = (await ask("EAST", "operator").get("/v1/codes/urgencies")).json()
    assert {one["code"]: one["data"] for one in hours["codes"]} == {"urgent-direct": 8, "urgent-indirect": 72, "normal": 168}


async def test_a_caller_that_has_a_list_is_not_given_it_again(ask: Ask) -> None:
    """The tag of a list differs by list and language; 304 has no body."""
    french = {"Accept-Language": "fr"}
    first = await ask("EAST").get("/v1/codes/units", headers=french)
    again = await ask("EAST").get("/v1/codes/units", headers=french | {"If-None-Match": f'"old", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = await ask("EAST").get("/v1/codes/units", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


async def test_all_lists_are_named_with_their_versions_and_days(ask: Ask) -> None:
    """Each of them can be had; another name is none."""
    answer = await ask("EAST").get("/v1/codes")
    lists = answer.json()["lists"]
    assert [one["name"] for one in lists] == sorted(label_lists())
    assert answer.headers["content-language"] == "en"
    for one in lists:
        assert one["version"]
        assert one["codes"] == len((await ask("EAST").get(f"/v1/codes/{one['name']}")).json()["codes"])
    problem(await ask("EAST").get("/v1/codes/rumours"), 404, "unknown-list")


async def test_an_operator_steers_a_message_on_its_way(ask: Ask, nodes: dict[str, Node]) -> None:
    """Hold, replay, release and discard take a reason, show in the states, and are refused when there is nothing to do."""
    operator, broker = ask("WEST", "operator"), nodes["WEST"].broker
    reason = {"reason": "the duty officer asked"}
    broker.connected.clear()
    try:
        held, dropped = await sent(ask, alert(headline="held back")), await sent(ask, alert(headline="dropped"))
        paths = [f"/v1/messages/{one['id']}" for one in (held, dropped)]
        assert (await ask("WEST").post(f"{paths[0]}/hold", json=reason)).status_code == 403
        assert (await operator.post(f"{paths[0]}/hold", json={})).status_code == 422
        assert (await operator.post(f"{paths[0]}/hold", json=reason)).status_code == 204
        assert (await operator.post(f"{paths[0]}/hold", json=reason)).json()["code"] == "message-held"
        assert (await operator.post(f"{paths[0]}/replay", json=reason)).json()["code"] == "message-held"
        assert (await operator.post(f"{paths[1]}/release", json=reason)).json()["code"] == "not-held"
        assert (await operator.post(f"/v1/messages/{UNKNOWN}/hold", json=reason)).status_code == 404
        assert (await operator.post(f"{paths[1]}/discard", json=reason)).status_code == 204
        assert (await operator.post(f"{paths[1]}/discard", json=reason)).json()["code"] == "message-settled"
        listed = (await operator.get("/v1/messages", params={"state": "held"})).json()["messages"]
        assert [(one["id"], one["recipients"][0]["state"]) for one in listed] == [(held["id"], "held")]
        mixed = await operator.get("/v1/messages", params={"state": "held", "kind": "alert"})
        assert mixed.status_code == 422
    finally:
        broker.connected.set()
    shown = (await operator.get(paths[1])).json()["recipients"][0]
    assert (shown["state"], shown["code"]) == ("cancelled", "discarded")
    assert (await operator.post(f"{paths[0]}/release", json=reason)).status_code == 204
    await received(ask, "EAST", held["id"])
    leaves = await nodes["WEST"].centre.store.read(lambda c: record.leaves(c, nodes["WEST"].centre.store.epoch, 0, 100_000))
    said = [leaf for leaf in map(json.loads, leaves) if leaf.get("why") == reason["reason"]]
    assert [(leaf["step"], leaf["actor"]) for leaf in said] == [
        ("held", "operator"),
        ("discarded", "operator"),
        ("unheld", "operator"),
    ]


async def test_alarms_are_listed_for_operators(ask: Ask, nodes: dict[str, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    """`GET /v1/alarms` names the peer, the promise and the duty contact."""
    assert (await ask("WEST").get("/v1/alarms")).status_code == 403
    assert (await ask("WEST", "operator").get("/v1/alarms")).json() == {"alarms": []}
    late = Alarm("EAST", "flash", "accepted", 3, nodes["WEST"].centre.now() - 150_000)
    own = nodes["WEST"].deadlines  # its next look would find that nothing is late
    monkeypatch.setattr(nodes["WEST"], "deadlines", SimpleNamespace(alarms=(late,), contact=own.contact))
    alarm = (await ask("WEST", "operator").get("/v1/alarms")).json()["alarms"][0]
    assert (alarm["peer"], alarm["promise"], alarm["messages"]) == ("EAST", "accepted", 3)
    assert alarm["contact"]["email"].startswith("duty@")
