"""Who may use a node's API: roles, tokens that end, limits, four eyes, and what the audit record says of all of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import update

from relay import api
from relay.api import Api
from relay.api.app import make_app, routes
from relay.api.auth import roles_of
from relay.clients import ROLES, Client, Register, Role
from relay.clock import now_ms
from relay.directory import Directory
from relay.network import Network
from relay.policy import Judge
from relay.rabbit import PrivateBroker
from relay.store import record
from relay.store.tables import APPROVAL
from relay.web import connection, refusals
from relay.web.limits import Bucket
from tests.live import Live, eventually, message, private_network, redirect
from tests.test_cli import relay

A, B = CENTRES = ("ACCESSA", "ACCESSB")
PATIENT = {"RELAY_API__HEADER_SECONDS": "90", "RELAY_API__BODY_SECONDS": "90"}
"""A machine that stalls is no slow caller: what is shown with slow ones says how slow is too slow (`hasty`)."""
NARROW = {
    "RELAY_API__HEADER_BYTES": "4096",
    "RELAY_API__RATE__RECEIVE": "2",
    "RELAY_API__RATE__MESSAGES": "5",
    "RELAY_API__RATE__BURST_SECONDS": "2",
    "RELAY_API__RATE__FAILURES_PER_MINUTE": "10",
}
"""What lets B's API take little, so that its limits are met at once."""
WRITTEN_SECONDS = 0.5
"""How often refusals are written here."""
WHY = {"reason": "order 7"}
ROUTES = routes()
PEOPLE: dict[str, tuple[tuple[Role, ...], str | None]] = {
    "anna": (("operate", "audit"), "Anna Example"),
    "anna-at-home": (("operate",), " ANNA  example "),
    "bert": (("operate",), "Bert Example"),
    "root": (("admin",), "Rita Example"),
    **{f"only-{role}": ((role,), None) for role in ROLES},
}


class Served:
    """Two nodes with their APIs, and clients of them by name."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self._apis: dict[str, tuple[Api, asyncio.Task[None]]] = {}
        self._clients: dict[tuple[str, str | None], httpx2.AsyncClient] = {}
        self._tokens: dict[str, str] = {}
        for centre in CENTRES:
            for name, (roles, person) in PEOPLE.items():
                _, self._tokens[f"{centre}/{name}"] = self.register(centre).add(name, roles, person=person)

    def register(self, centre: str) -> Register:
        """Return a centre's clients' file."""
        return Register(self.live.network.centre(centre) / "clients.json")

    def address(self, centre: str) -> tuple[str, int]:
        """Return where a centre's API listens."""
        host, _, port = self.live.network.listen(centre).rpartition(":")
        return host, int(port)

    def ask(self, centre: str, name: str | None) -> httpx2.AsyncClient:
        """Return a client of a centre's API; without a name it brings no token."""
        if (centre, name) not in self._clients:
            found = self._tokens.get(f"{centre}/{name}") or (self.live.network.token(centre, name) if name else None)  # type: ignore[arg-type]
            self._clients[centre, name] = self.with_token(centre, found)
        return self._clients[centre, name]

    def with_token(self, centre: str, token: str | None) -> httpx2.AsyncClient:
        """Return a client that brings this token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://{self.live.network.listen(centre)}"
        return httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)

    async def start(self, centre: str) -> None:
        """Start a node and its API, and wait until it answers."""
        await self.live.start(centre)
        served = Api()
        self._apis[centre] = served, asyncio.create_task(served.run(self.live[centre]), name=f"api of {centre}")

        async def answers() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                return (await self.ask(centre, None).get(f"http://{self.live.network.health(centre)}/livez")).text == "yes"
            return False

        await eventually(answers)

    @contextlib.contextmanager
    def hasty(self, **seconds: float) -> Iterator[None]:
        """Let B's API wait no longer than this, for the length of a block; but as long as you like between two requests."""
        centre, server = self.live[B].centre, self._apis[B][0]._server
        assert server is not None
        whole, connections, idle = centre.settings, server.config.http, server.config.timeout_keep_alive
        centre.settings = whole.model_copy(update={"api": whole.api.model_copy(update=seconds)})
        connections.settings = centre.settings.api  # type: ignore[union-attr]
        server.config.timeout_keep_alive = 60
        try:
            yield
        finally:
            centre.settings = whole
            connections.settings = whole.api  # type: ignore[union-attr]
            server.config.timeout_keep_alive = idle

    async def refusals_written(self, centre: str) -> None:
        """Wait until what was refused before stands in the record."""
        here = self._apis[centre][0]._here
        assert here is not None
        await eventually(lambda: not here.refusals.counts)

    async def stop(self, centre: str) -> None:
        """Stop a node and its API."""
        served, task = self._apis.pop(centre)
        await served.stop()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await self.live.stop(centre)

    async def close(self) -> None:
        """Stop everything."""
        for centre in list(self._apis):
            await self.stop(centre)
        for client in self._clients.values():
            await client.aclose()

    async def leaves(self, centre: str, step: str, **having: Any) -> list[dict[str, Any]]:
        """Return the leaves of a step in a centre's record."""
        store = self.live[centre].centre.store
        rows = await store.read(lambda connection: record.leaves(connection, store.epoch, 0, 100_000))
        found = [leaf for leaf in map(json.loads, rows) if leaf["step"] == step]
        return [leaf for leaf in found if all(leaf.get(key) == value for key, value in having.items())]


@pytest.fixture(scope="module")
def offices(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Write a network in which the directory wants two people for everything that can be."""
    made = private_network(tmp_path_factory.mktemp("access") / "net", broker, "access", CENTRES)

    def want_two(register: dict[str, Any]) -> None:
        register["policy"]["four_eyes"] = ["replay", "quarantine-release", "purge"]

    return redirect(made, want_two)


@pytest.fixture(scope="module")
async def served(offices: Network, broker: PrivateBroker) -> AsyncIterator[Served]:
    """Run both nodes with their APIs; B's takes little. Refusals are written every half second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refusals, "EVERY_SECONDS", WRITTEN_SECONDS)
        patch.setattr(connection, "GRACE_SECONDS", 0.2)
        for name, value in PATIENT.items():
            patch.setenv(name, value)
        both = Served(Live(offices, broker))
        try:
            await both.start(A)
            with pytest.MonkeyPatch.context() as narrow_:
                for name, value in NARROW.items():
                    narrow_.setenv(name, value)
                await both.start(B)
            yield both
        finally:
            await both.close()


class Clock:
    """The time by which an API counts how much is asked of it; it stands still but for what a test lets pass."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let nothing be paid off while the machine is slow."""
    made = Clock()
    for module in ("auth", "messages"):
        monkeypatch.setattr(f"relay.api.{module}.time", made)
    return made


def code(answer: httpx2.Response) -> tuple[int, str]:
    """Return an answer's status and the code of its problem."""
    return answer.status_code, answer.json()["code"]


def path_of(route: APIRoute) -> str:
    """Return an address of a route, with something in place of its parameters."""
    return "/".join("nothing" if part.startswith("{") else part for part in route.path.split("/"))


# Roles


def test_every_route_declares_roles_and_the_contract_names_them() -> None:
    """There is no route without a role, and the document of the API says of each which ones open it."""
    assert len(ROUTES) > 40
    assert len(make_app().openapi()["paths"]) == len({route.path for route in ROUTES if route.include_in_schema})
    assert [route.path for route in ROUTES if not roles_of(route)] == []
    paths = api.openapi()["paths"]
    for route in ROUTES:
        for method in route.methods if route.include_in_schema else ():
            said = [role for one in paths[route.path][method.lower()]["security"] for role in one["bearer"]]
            assert said == list(roles_of(route)), route.path


async def test_every_route_refuses_every_other_role(served: Served) -> None:
    """403 for each role that a route does not name, 401 without a token; and a role that it names is let in."""
    for route in ROUTES:
        for method in sorted(route.methods):
            assert code(await served.ask(A, None).request(method, path_of(route))) == (401, "not-authenticated"), route.path
            for role in ROLES:
                answer = await served.ask(A, f"only-{role}").request(method, path_of(route))
                refused = answer.status_code == 403 and answer.json()["code"] == "not-allowed"
                assert refused is (role not in roles_of(route)), (method, route.path, role, answer.text)


async def test_an_admin_does_nothing_but_give_and_take_tokens(served: Served) -> None:
    """The role includes no other: who may make clients neither reads nor sends with it."""
    opened = {route.path for route in ROUTES if "admin" in roles_of(route) and len(roles_of(route)) < len(ROLES)}
    assert {path.split("/")[2] for path in opened} == {"clients"}
    assert code(await served.ask(A, "root").get("/v1/messages")) == (403, "not-allowed")


async def test_a_search_needs_the_role_audit_and_a_reason(served: Served) -> None:
    """Who operates sees the list; who searches says why, and is in the record."""
    operates = served.ask(A, "bert")
    assert (await operates.get("/v1/messages")).status_code == 200
    assert code(await operates.get("/v1/messages", params={"kind": "alert", **WHY})) == (403, "not-allowed")
    assert code(await served.ask(A, "anna").get("/v1/messages", params={"kind": "alert"})) == (422, "bad-request")
    assert (await served.ask(A, "anna").get("/v1/messages", params={"kind": "alert", **WHY})).status_code == 200
    (leaf,) = await served.leaves(A, "searched")
    assert (leaf["actor"], leaf["why"]) == ("anna (Anna Example)", "kind; order 7")


# Tokens


async def test_a_token_is_kept_nowhere_and_ends_soon_after_its_revocation(served: Served) -> None:
    """The file has its digest alone; revoked by a command while the node runs, it opens nothing, not even what it waits for."""
    register = served.register(A)
    _, token = register.add("short-lived", ("receive",), by="the test", why="order 8")
    assert token not in (served.live.network.centre(A) / "clients.json").read_text()
    async with served.with_token(A, token) as client:

        async def opens() -> bool:
            return (await client.get("/v1/inbox")).status_code == 200

        await eventually(opens)
        waiting = asyncio.create_task(client.get("/v1/inbox", params={"wait": 60}))
        await asyncio.sleep(0.2)
        register.revoke("short-lived", by="the test", why="order 9")
        await asyncio.wait_for(waiting, 30)
        assert code(await client.get("/v1/inbox")) == (401, "not-authenticated")

    async def recorded() -> list[tuple[Any, ...]]:
        leaves = await served.leaves(A, "client-changed", actor="the test")
        return [(leaf["code"], leaf["why"]) for leaf in leaves]

    wanted = [("added", "short-lived: receive; order 8"), ("revoked", "short-lived: receive; order 9")]

    async def are() -> bool:
        return await recorded() == wanted

    await eventually(are)


async def test_a_token_expires_at_its_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to take it away: until then it opens, from then on it does not."""
    _, token = served.register(A).add("for-a-moment", ("audit",), expires=datetime.now(UTC) + timedelta(hours=1))
    valid, later = Client.valid, timedelta()
    monkeypatch.setattr(Client, "valid", lambda self, now: valid(self, now + later // timedelta(milliseconds=1)))
    async with served.with_token(A, token) as client:
        await eventually(lambda: _status(client, 200))
        later = timedelta(minutes=50)  # what is left is no matter of how long a request takes
        assert await _status(client, 200)
        later = timedelta(hours=1)
        assert await _status(client, 401)


async def _status(client: httpx2.AsyncClient, status: int) -> bool:
    return (await client.get("/v1/codes")).status_code == status


async def test_an_admin_gives_and_takes_tokens_through_the_api(served: Served) -> None:
    """Added, rotated, revoked: each holds at once, has a reason on record, and shows its token this once."""
    admin = served.ask(A, "root")
    asked = {"name": "desk-2", "roles": ["audit"], "person": "Dora Example", **WHY}
    made = await admin.post("/v1/clients", json=asked)
    assert made.status_code == 201
    assert code(await admin.post("/v1/clients", json=asked)) == (409, "client-exists")
    assert code(await admin.post("/v1/clients", json={**asked, "name": "Desk 2"})) == (422, "bad-client")
    rotated = await admin.post("/v1/clients/desk-2/rotate", json=WHY)
    for answer, status in ((made, 401), (rotated, 200)):
        async with served.with_token(A, answer.json()["token"]) as client:
            assert (await client.get("/v1/codes")).status_code == status
    assert (await admin.post("/v1/clients/desk-2/revoke", json=WHY)).json()["valid"] is False
    assert code(await admin.post("/v1/clients/desk-2/revoke", json=WHY)) == (409, "client-revoked")
    assert code(await admin.post("/v1/clients/nobody/revoke", json=WHY)) == (404, "unknown-client")
    listed = (await admin.get("/v1/clients")).json()["clients"]
    assert next(one for one in listed if one["name"] == "desk-2")["person"] == "Dora Example"
    leaves = await served.leaves(A, "client-changed", actor="root (Rita Example)")
    assert [leaf["code"] for leaf in leaves] == ["added", "rotated", "revoked"]
    assert leaves[0]["why"] == "desk-2 (Dora Example): audit; order 7"


async def test_a_file_that_breaks_while_the_node_runs_changes_nothing(served: Served) -> None:
    """A slip of the hand shuts nobody out, and what was revoked stays so."""
    file = served.live.network.centre(A) / "clients.json"
    whole = file.read_text()
    file.write_text(whole[:-30])
    try:
        await asyncio.sleep(1.2)
        assert (await served.ask(A, "root").get("/v1/clients")).status_code == 200
        assert code(await served.ask(A, "root").post("/v1/clients/bert/revoke", json=WHY)) == (500, "bad-clients-file")
    finally:
        file.write_text(whole)


def test_the_commands_give_and_take_tokens(offices: Network, tmp_path: Path) -> None:
    """`relay token` works on the file that the settings name; a token is printed once, or written for its owner alone."""
    config = offices.node_file(B)
    added = relay("token", "add", "by-hand", "--role", "audit", "--person", "Hans Example", "--reason", "new", "--config", config)
    assert (added.status, len(added.out.strip())) == (0, 43)
    saved = tmp_path / "token"
    assert relay("token", "rotate", "by-hand", "--reason", "lost", "--save", saved, "--config", config).out == ""
    assert saved.stat().st_mode & 0o777 == 0o600
    listed = json.loads(relay("token", "list", "--json", "--config", config).out)["clients"]
    assert next(one for one in listed if one["name"] == "by-hand")["valid"] is True
    assert saved.read_text().strip() not in json.dumps(listed)
    assert relay("token", "revoke", "by-hand", "--reason", "left", "--config", config).out == "by-hand  revoked\n"
    assert "by-hand  audit  Hans Example  revoked" in relay("token", "list", "--config", config).out
    assert relay("token", "add", "by-hand", "--role", "boss", "--reason", "x", "--config", config).status == 65


# Refusals in the record


async def test_refusals_are_counted_in_the_record_and_can_t_flood_it(served: Served) -> None:
    """Fifty wrong tokens and twenty wrong roles are a leaf or two each, with who, how often and what for."""

    async def counted(who: str, refused: str) -> tuple[int, int]:
        leaves = await served.leaves(A, "access-refused", actor=who, code=refused)
        return len(leaves), sum(int(leaf["why"].partition("x ")[0]) for leaf in leaves)

    strangers, known = ("address 127.0.0.1", "not-authenticated"), ("system, 127.0.0.1", "not-allowed")
    await served.refusals_written(A)
    before, begun = await counted(*strangers), time.monotonic()
    async with served.with_token(A, "wrong") as client:
        await asyncio.gather(*(client.get("/v1/inbox") for _ in range(50)))
    await asyncio.gather(*(served.ask(A, "system").get("/v1/health") for _ in range(20)))

    async def written() -> bool:
        return (await counted(*known))[1] == 20 and (await counted(*strangers))[1] == before[1] + 50

    await eventually(written)
    most = 2 + (time.monotonic() - begun) / WRITTEN_SECONDS  # one each time that they are written, however long it took
    assert (await counted(*strangers))[0] - before[0] <= most
    assert (await counted(*known))[0] <= most
    assert (await served.leaves(A, "access-refused", actor=known[0]))[0]["why"].endswith("x GET /v1/health")


# Limits


async def test_a_client_that_asks_too_often_is_told_when_to_come_back(served: Served, clock: Clock) -> None:
    """Its requests are 429 with Retry-After, other clients are not held up, and after the pause it is let in again."""
    client = served.ask(B, "only-receive")
    answers = [await client.get("/v1/inbox") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 4
    assert code(answers[-1]) == (429, "too-many-requests")
    assert int(answers[-1].headers["retry-after"]) == 1
    assert (await served.ask(B, "system").get("/v1/inbox")).status_code == 200
    clock.now += 1.0
    assert (await client.get("/v1/inbox")).status_code == 200


async def test_a_client_that_sends_too_much_pays_it_off(served: Served, clock: Clock) -> None:
    """A batch above the rate is taken once there is room, what comes at once after it is not, and what comes later is."""
    batch = b"\n".join(message(to=[A], case_number=f"ACC-{n}") for n in range(30))
    client = served.ask(B, "only-submit")
    assert (await client.post("/v1/messages/batch", content=batch)).status_code == 200
    refused = await client.post("/v1/messages", content=message(to=[A]))
    assert code(refused) == (429, "too-many-messages")
    assert int(refused.headers["retry-after"]) == 5
    assert (await served.ask(B, "system").post("/v1/messages", content=message(to=[A]))).status_code == 202
    clock.now += 5.0
    assert (await client.post("/v1/messages", content=message(to=[A]))).status_code == 202


@pytest.mark.usefixtures("clock")
async def test_failures_of_an_address_are_limited_and_a_right_token_still_opens(served: Served) -> None:
    """Guessing is slowed down; it can't be used to shut out who has a token at the same address."""
    async with served.with_token(B, "guess") as client:
        codes = [code(await client.get("/v1/inbox")) for _ in range(15)]
    assert codes[0] == (401, "not-authenticated")
    assert codes[-1] == (429, "too-many-failures")
    assert (await served.ask(B, "operator").get("/v1/health")).status_code == 200


def test_a_bucket_fills_steadily_and_takes_more_than_its_size_when_it_is_full() -> None:
    """Ten a second with room for twenty: twenty at once, then one each tenth of a second; fifty are paid off in three seconds."""
    bucket = Bucket(10, 20, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(20)] == [0.0] * 20
    assert bucket.take(1, 0.0) == pytest.approx(0.1)
    assert bucket.take(1, 0.1) == 0.0
    assert bucket.take(50, 2.1) == 0.0
    assert bucket.take(1, 2.1) == pytest.approx(3.1)


# Slow and long-winded callers


async def said(address: tuple[str, int], *parts: bytes, pause: float = 0.0) -> bytes:
    """Return what a connection is answered until it is closed, when it says these bytes with pauses."""
    reader, writer = await asyncio.open_connection(*address)
    answer = bytearray()

    async def listen() -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(4096):
                answer.extend(part)

    listening = asyncio.create_task(listen())
    for part in parts:
        with contextlib.suppress(ConnectionError):
            writer.write(part)
            await writer.drain()
        await asyncio.sleep(pause)
    await asyncio.wait_for(listening, 30)
    writer.close()
    return bytes(answer)


HEAD = b"GET /v1/codes HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("parts", "pause", "status", "code_"),
    [
        ([], 0.0, b"408", b"headers-timeout"),
        ([HEAD], 0.0, b"408", b"headers-timeout"),
        ([HEAD, *[b"X: y\r\n"] * 4], 0.2, b"408", b"headers-timeout"),
        ([*[b"\r\n"] * 5], 0.2, b"408", b"headers-timeout"),
        ([HEAD, b"X: " + b"y" * 5000, b"\r\n\r\n"], 0.05, b"431", b"headers-too-large"),
        ([HEAD, *[b"X: " + b"y" * 500 + b"\r\n"] * 10], 0.02, b"431", b"headers-too-large"),
        ([HEAD.replace(b"codes", b"codes?" + b"y" * 5000) + b"\r\n"], 0.0, b"431", b"headers-too-large"),
    ],
    ids=["nothing", "half", "drop by drop", "empty lines", "one long header", "many headers", "long address"],
)
async def test_headers_come_in_time_and_are_not_too_many(
    served: Served, parts: list[bytes], pause: float, status: bytes, code_: bytes
) -> None:
    """Whoever holds a connection without a request, or sends headers without end, is told so and cut off."""
    with served.hasty(header_seconds=0.5 if status == b"408" else 60):
        answer = await said(served.address(B), *parts, pause=pause)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b'"' + code_ + b'"' in answer


async def test_a_body_that_nobody_reads_is_not_waited_for_either(served: Served) -> None:
    """A refused request whose body drips in for ever holds no connection."""
    head = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with served.hasty(body_seconds=0.5):
        answer = await said(served.address(B), head, *[b"x"] * 8, pause=0.2)
    assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 429"))


async def test_requests_one_after_the_other_on_one_connection_are_all_answered(served: Served) -> None:
    """The deadlines are a request's, not a connection's: pipelined or apart, small or large, each has its own."""
    token = served.live.network.token(B, "operator")
    one = b"GET /v1/codes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n"
    last = one.replace(b"Host: x", b"Host: x\r\nConnection: close")
    with served.hasty(header_seconds=2, body_seconds=2):
        answer = await said(served.address(B), one, one + one, one, last, pause=0.8)  # 2.4 s from the first to the last
    assert answer.count(b"HTTP/1.1 200 OK") == 5


# Four eyes


async def accepted(served: Served, origin: str, recipient: str, number: str) -> str:
    """Submit a message and wait until the peer has it; return its id."""
    stored = await served.live.submit(origin, message(to=[recipient], case_number=number))
    await served.live.reaches(origin, stored.id, recipient, "accepted")
    return stored.id


async def test_a_message_is_sent_again_when_two_different_people_want_it(served: Served) -> None:
    """One asks, another approves, also after a restart; one person with two tokens, or a token of nobody, is not enough."""
    id_ = await accepted(served, A, B, "EYES-1")
    path = f"/v1/messages/{id_}/replay"
    assert code(await served.ask(A, "operator").post(path, json=WHY)) == (403, "no-person")
    asked = await served.ask(A, "anna").post(path, json=WHY)
    approval = asked.json()
    assert (asked.status_code, approval["state"], approval["subject"]) == (202, "pending", id_)
    assert (await served.ask(A, "anna-at-home").post(path, json=WHY)).json()["id"] == approval["id"]
    assert code(await served.ask(A, "bert").post(path, json=WHY)) == (409, "approval-pending")
    await served.stop(A)
    await served.start(A)
    listed = (await served.ask(A, "anna").get("/v1/approvals")).json()["approvals"]
    assert [one["id"] for one in listed] == [approval["id"]]
    approve = f"/v1/approvals/{approval['id']}/approve"
    for who, refused in (("anna", "same-person"), ("anna-at-home", "same-person"), ("operator", "no-person")):
        assert code(await served.ask(A, who).post(approve, json=WHY)) == (403, refused)
    assert await served.leaves(A, "replayed") == []
    done = await served.ask(A, "bert").post(approve, json={"reason": "agreed"})
    assert (done.status_code, done.json()["state"], done.json()["decided_by"]) == (200, "done", "bert (Bert Example)")
    (leaf,) = await served.leaves(A, "replayed")
    assert (leaf["actor"], leaf["why"]) == ("anna (Anna Example) and bert (Bert Example)", "order 7; agreed")
    assert code(await served.ask(A, "bert").post(approve, json=WHY)) == (409, "approval-over")
    assert len(await served.leaves(A, "approval-asked", actor="anna (Anna Example)", code="replay")) == 1
    assert len(await served.leaves(A, "approval-given", actor="bert (Bert Example)", code="replay")) == 1


async def test_what_is_refused_or_an_hour_old_is_not_done(served: Served) -> None:
    """A second person may say no, and whoever asked may take it back; after an hour nobody can approve it."""
    id_ = await accepted(served, A, B, "EYES-2")
    for late in (False, True):
        asked = (await served.ask(A, "anna").post(f"/v1/messages/{id_}/replay", json=WHY)).json()
        if late:
            await make_late(served, asked["id"])
        else:
            no = await served.ask(A, "bert").post(f"/v1/approvals/{asked['id']}/refuse", json={"reason": "no need"})
            assert no.json()["state"] == "refused"
        answer = await served.ask(A, "bert").post(f"/v1/approvals/{asked['id']}/approve", json=WHY)
        assert code(answer) == (409, "approval-over")
    listed = (await served.ask(A, "anna").get("/v1/approvals", params={"all": "true"})).json()["approvals"]
    assert {"refused", "expired"} <= {one["state"] for one in listed}
    assert code(await served.ask(A, "bert").post("/v1/approvals/nothing/approve", json=WHY)) == (404, "unknown-approval")


async def make_late(served: Served, id_: str) -> None:
    """Let an approval's hour be over."""
    past = update(APPROVAL).where(APPROVAL.c.id == id_).values(expires_at=now_ms() - 1)
    await served.live[A].centre.store.write(lambda connection: connection.execute(past).rowcount)


async def test_a_purge_by_hand_waits_for_a_second_person(served: Served) -> None:
    """So does a discarded message; a dry run and what the node does by itself wait for nobody."""
    anna, bert = served.ask(A, "anna"), served.ask(A, "bert")
    assert (await anna.post("/v1/retention/run", json={"dry_run": True})).status_code == 200
    assert code(await anna.post("/v1/retention/run", json={"dry_run": False})) == (422, "bad-request")
    asked = await anna.post("/v1/retention/run", json={"dry_run": False, **WHY})
    assert (asked.status_code, asked.json()["action"]) == (202, "purge")
    done = await bert.post(f"/v1/approvals/{asked.json()['id']}/approve", json=WHY)
    assert done.json()["state"] == "done"
    id_ = await accepted(served, B, A, "EYES-3")
    asked = await anna.post(f"/v1/received/{id_}/discard", json=WHY)
    assert asked.status_code == 202
    assert (await anna.get(f"/v1/received/{id_}")).json()["state"] == "waiting"
    await bert.post(f"/v1/approvals/{asked.json()['id']}/approve", json=WHY)
    assert (await anna.get(f"/v1/received/{id_}")).json()["state"] == "rejected"
    assert len(await served.leaves(A, "discarded", actor="anna (Anna Example) and bert (Bert Example)")) == 1


@contextlib.contextmanager
def narrow(served: Served) -> Iterator[None]:
    """Let A see a directory, for the length of a block, in which B may publish nothing but alerts."""
    centre = served.live[A].centre
    register = json.loads(centre.directory.model_dump_json())
    member = next(one for one in register["members"] if one["id"] == B)
    member["publish"] = [{"crime_types": ["drugs"], "regions": ["001"], "kinds": ["alert"]}]
    whole, centre.judge = centre.judge, Judge(Directory.model_validate(register), A)
    try:
        yield
    finally:
        centre.judge = whole


async def test_a_refusal_is_overruled_by_two_people(served: Served) -> None:
    """A quarantined message stays where it is until the second one agrees; a held one is released by one alone."""
    anna, bert = served.ask(A, "anna"), served.ask(A, "bert")
    with narrow(served):
        stored = await served.live.submit(B, message(to=[A], case_number="EYES-4"))
        await served.live.reaches(B, stored.id, A, "rejected")
    path = f"/v1/received/{stored.id}"
    asked = await anna.post(f"{path}/release", json=WHY)
    assert (asked.status_code, asked.json()["action"]) == (202, "quarantine-release")
    assert (await anna.get(path)).json()["state"] == "quarantined"
    assert (await bert.post(f"/v1/approvals/{asked.json()['id']}/approve", json=WHY)).json()["state"] == "done"
    assert (await anna.get(path)).json()["state"] == "waiting"
    assert (await anna.post(f"{path}/hold", json=WHY)).status_code == 200
    assert (await anna.post(f"{path}/release", json=WHY)).status_code == 200


async def test_what_can_t_be_done_any_more_is_noted_as_failed(served: Served) -> None:
    """The second person is told why, and the approval is over."""
    id_ = await accepted(served, A, B, "EYES-5")
    asked = (await served.ask(A, "anna").post(f"/v1/messages/{id_}/replay", json=WHY)).json()
    assert (await served.ask(A, "bert").post(f"/v1/messages/{id_}/discard", json=WHY)).status_code == 204
    approve = f"/v1/approvals/{asked['id']}/approve"
    assert code(await served.ask(A, "bert").post(approve, json=WHY)) == (409, "message-settled")
    assert code(await served.ask(A, "bert").post(approve, json=WHY)) == (409, "approval-over")


async def test_the_commands_of_four_eyes(served: Served, tmp_path: Path) -> None:
    """The act says that it waits; the list shows it; the second person approves with a token of their own."""
    id_ = await accepted(served, A, B, "EYES-6")
    files = {}
    for name in ("anna", "bert"):
        files[name] = tmp_path / name
        files[name].write_text(served._tokens[f"{A}/{name}"])

    async def command(name: str, *words: str) -> Any:
        config = ("--config", str(served.live.network.node_file(A)), "--token-file", str(files[name]))
        return await asyncio.to_thread(relay, *words, *config)

    waits = await command("anna", "message", "replay", id_, "--reason", "order 7")
    assert (waits.status, "relay approval approve" in waits.err) == (0, True)
    approval = next(line for line in waits.out.splitlines() if id_ in line and "pending" in line).split()[0]
    shown = (await command("bert", "approval", "list")).out
    assert f"{approval}  pending  replay  {id_}  anna (Anna Example)" in shown
    assert (await command("anna", "approval", "approve", approval, "--reason", "x")).status == 77
    assert (await command("bert", "approval", "approve", approval, "--reason", "x")).status == 0
    assert (await command("bert", "approval", "refuse", approval, "--reason", "x")).status == 65
