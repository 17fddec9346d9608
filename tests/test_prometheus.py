"""A real Prometheus scrapes real nodes under traffic, and everything that dashboards and alert rules ask of it has an answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, Literal
from uuid import uuid4

import httpx2
import pytest

from relay.api import Api
from relay.clients import Register
from relay.console import Console
from relay.network import Network
from relay.node import open_node
from relay.rabbit import Management, PrivateBroker
from relay.settings import load
from relay.store import Connection
from relay.topology import queue
from relay.web.served import make_here
from tests.live import PATIENCE, Live, eventually, message, private_network, signatures
from tests.test_recall import cancel
from tests.watched import RULES, Asked, Prometheus, configuration, of_metrics, of_panels, of_rules, prometheus, substituted

pytestmark = pytest.mark.timeout(300)  # what goes wrong first, and every look at all panels, take long on a busy machine
A, B, C = CENTRES = ("PROMA", "PROMB", "PROMC")
"""C never runs: what goes there stays open, and makes A late."""
RUNNING = (A, B)
VHOST = "watched"
PAIRS = ({"centre": A, "peer": B}, {"centre": B, "peer": A})
HURRIED = {
    "RELAY_REPAIR__MARK_FIRST": "0.2",
    "RELAY_REPAIR__GAP": "0.3",
    "RELAY_REPAIR__HEARTBEAT_SECONDS": "0.5",
    "RELAY_BROKER__RECONNECT_SECONDS": "1",
    "RELAY_AUDIT__CHECKPOINT_SECONDS": "1",
    "RELAY_AUDIT__VERIFY_SECONDS": "2",
    "RELAY_DIRECTORY__POLL_SECONDS": "0.2",
    "RELAY_RETENTION__EVERY_SECONDS": "1",
    "RELAY_ALARMS__FLASH": "0.5",
    "RELAY_ALARMS__ROUTINE": "0.5",
}


class Served(Live):
    """Live nodes that listen, each with its API and its console."""

    async def start(self, *centres: str) -> None:
        """Start nodes and wait until they reach the broker."""
        for centre in centres:
            node = self.nodes[centre] = await open_node(load(self.network.node_file(centre)))
            here = make_here(node)
            self._tasks[centre] = asyncio.create_task(node.run(Api(here), Console(here)), name=centre)
        for centre in centres:
            task, connected = self._tasks[centre], asyncio.create_task(self.nodes[centre].broker.connected.wait())
            await asyncio.wait({task, connected}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            assert connected.done(), task.done() and task.result()

    async def ask(self, centre: str, method: str, path: str, role: Literal["system", "operator"] = "system", **given: Any) -> Any:
        """Ask a node's API with the token of a role; return the answer."""
        headers = {"Authorization": f"Bearer {self.network.token(centre, role)}"}
        async with httpx2.AsyncClient(
            base_url=f"http://{self.network.listen(centre)}", trust_env=False, timeout=PATIENCE
        ) as client:
            return await client.request(method, path, headers=headers, **given)

    async def exchange(self) -> None:
        """Submit one message each way, and take what waits, as the centres' own systems do."""
        for origin, recipient in ((A, B), (B, A)):
            raw = message(to=[recipient], case_number=f"CASE-{uuid4().hex[:8]}")
            assert (await self.ask(origin, "POST", "/v1/messages", content=raw)).status_code == 202
            answer = await self.ask(recipient, "GET", "/v1/inbox")
            ids = [one["id"] for one in answer.json()["messages"]]
            await self.ask(recipient, "POST", "/v1/inbox/ack", json={"ids": ids})


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Run two centres that do in seconds what they usually do in minutes, with a client that may watch."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in HURRIED.items():
            patch.setenv(name, value)
        network = private_network(tmp_path_factory.mktemp("watched") / "network", broker, VHOST, CENTRES)
        for centre in RUNNING:
            _, token = Register(network.centre(centre) / "clients.json").add("prometheus", ("watch",), why="test")
            (network.folder / centre).write_text(token, encoding="utf-8")
        nodes = Served(network, broker)
        await nodes.start(*RUNNING)
        yield nodes
        await nodes.close()


@pytest.fixture(scope="module")
async def watching(live: Served, broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """Let whatever can go wrong between two centres go wrong, then watch them under traffic."""
    folder = tmp_path_factory.mktemp("prometheus")
    given = configuration(live.network, RUNNING, live.network.folder)
    async with prometheus(folder, given, broker.bond) as running:
        await trouble(live)
        busy = asyncio.create_task(traffic(live))
        yield running
        busy.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await busy


async def traffic(live: Served) -> None:
    """Go on exchanging messages until cancelled."""
    while True:
        await live.exchange()
        await asyncio.sleep(0.1)


async def trouble(live: Served) -> None:
    """Cause what happens seldom, so that everything that is counted has been counted."""
    await wait_in_vain(live)
    await lose(live)
    await refuse(live)
    await withdraw(live)
    await contradict(live)
    await differ(live)
    await guess(live)


async def wait_in_vain(live: Served) -> None:
    """Send something to a centre that does not run, urgent and not; an operator does with one what can be done with it."""
    await live.submit(A, message(to=[C], precedence="flash"))
    routine = await live.submit(A, message(to=[C]))
    await steer(live, routine.id, "hold", "release", "replay")


async def lose(live: Served) -> None:
    """Let the broker lose what it confirmed, and refuse what it has no queue for, while B is off."""
    await live.stop(B)
    lost = [await live.submit(A, message(to=[B])) for _ in range(2)]
    for one in lost:
        await live.reaches(A, one.id, B, "sent")
    await live.purge(B, "routine")
    await steer(live, lost[0].id, "discard")
    with management(live.network) as rabbit:
        rabbit._call("DELETE", f"/api/queues/{VHOST}/{queue(B, 'priority')}")
        await live.submit(A, message(to=[B], precedence="priority"))
        await eventually(lambda: counted(live, A, "publish_failures"))
        rabbit.apply([one for one in rabbit.plan(live.network.topology) if one.action != "remove"], live.network.passwords)
    await live.start(B)
    seen = ((A, "resent"), (A, "nacks"), (B, "nacks"), (A, "ended"), (B, "voided"))
    await eventually(lambda: all(counted(live, centre, name) for centre, name in seen))


async def refuse(live: Served) -> None:
    """Send what is refused: at submit, without an answer, on arrival, as a control that says nothing, and by B's own system."""
    assert (await live.ask(A, "POST", "/v1/messages", content=b"{}")).status_code == 422
    await live.inject(A, B, b"noise")
    await live.inject(A, B, live.seal(A, [B], [b"{}"]).raw)
    says = partial(live[A].control.numbered, kind="epoch", recipient=B, content=b"nothing")
    await live.inject(A, B, await live[A].centre.store.write(says), "control")
    unwanted = await live.submit(A, message(to=[B]))
    await live.reaches(A, unwanted.id, B, "accepted")
    await live.ask(B, "GET", "/v1/inbox")
    await live.ask(B, "POST", "/v1/inbox/nack", json={"id": unwanted.id, "code": "closed"})
    await live.reaches(A, unwanted.id, B, "rejected")
    await eventually(lambda: all(counted(live, B, name) for name in ("rejected", "dropped", "faults")))


async def steer(live: Served, message_id: str, *acts: str) -> None:
    """Let an operator of A act on a message of A's, several times."""
    for act in acts:
        answer = await live.ask(A, "POST", f"/v1/messages/{message_id}/{act}", "operator", json={"reason": "A test."})
        assert answer.status_code == 204, answer.text


async def withdraw(live: Served) -> None:
    """Take a message back, so that what it said is purged."""
    raw = message(to=[B])
    await live.submit(A, cancel(await live.submit(A, raw), raw))
    await eventually(lambda: counted(live, B, "purged"))


async def contradict(live: Served) -> None:
    """Put another directory of the same version, which all authorities signed, into A's files for a while."""
    folder = live.network.centre(A)
    files = (folder / "directory.json", folder / "directory.signatures.json")
    true = [file.read_bytes() for file in files]
    other = json.dumps(json.loads(true[0])).encode()
    for file, raw in zip(files, (other, signatures(live.network, other)), strict=True):
        file.write_bytes(raw)
    await eventually(lambda: counted(live, A, "directories"))
    for file, raw in zip(files, true, strict=True):
        file.write_bytes(raw)


async def differ(live: Served) -> None:
    """Raise at A the alarms about B that take another directory, a key revoked, a record that shrank, a store that went back."""

    def alarm(connection: Connection, code: str) -> None:
        live[A].recovery.alarm(connection, B, code, live[A].centre.now())()

    for code in ("directory-mismatch", "key-revoked", "audit-shrunk", "peer-went-back"):
        await live[A].centre.store.write(partial(alarm, code=code))


async def guess(live: Served) -> None:
    """Fail to sign in at a console."""
    address = f"http://{live.network.console(A)}"
    given = {"name": "nobody", "password": "a guess", "next": "/"}
    async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=PATIENCE) as client:
        answer = await client.post("/sign-in", data=given, headers={"Origin": address, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 403, answer.text


def counted(live: Served, centre: str, name: str) -> bool:
    """Return whether a node counted something under any labels."""
    metric = getattr(live[centre].centre.metrics, name)
    return any(sample.value for family in metric.collect() for sample in family.samples)


def management(network: Network) -> Management:
    """Return the administrator's access to the network's virtual host."""
    broker = network.broker
    return Management(broker.management, broker.admin, broker.admin_password, vhost=broker.vhost)


async def unanswered(watching: Prometheus, asked: Iterable[Asked]) -> list[str]:
    """Return what none of the expressions' variants has an answer to now."""

    async def answered(one: Asked) -> bool:
        variants = dict.fromkeys(substituted(one.expression, pair) for pair in PAIRS)
        for variant in variants:
            if await watching.has_data(variant):
                return True
        return False

    return [f"{one.place}: {one.expression}" for one in asked if not await answered(one)]


async def finally_answered(watching: Prometheus, asked: list[Asked], seconds: float = 90) -> list[str]:
    """Return what has no answer even after a while."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + seconds
    while (silent := await unanswered(watching, asked)) and loop.time() < limit:
        places = {line.partition(": ")[0] for line in silent}
        asked = [one for one in asked if one.place.partition(": ")[0] in places]
        await asyncio.sleep(0.5)
    return silent


async def test_every_node_is_scraped_with_the_role_watch(watching: Prometheus) -> None:
    """The configuration that is deployed reaches every node, with a token that can see and change nothing."""

    async def up() -> bool:
        found = await watching.get("targets", state="active")
        return {(one["labels"]["centre"], one["health"]) for one in found["activeTargets"]} == {(A, "up"), (B, "up")}

    await eventually(up)


async def test_the_rules_load_and_are_evaluated(watching: Prometheus) -> None:
    """Prometheus takes every rule that is deployed and evaluates it without an error."""

    async def evaluated() -> bool:
        rules = [rule for group in (await watching.get("rules"))["groups"] for rule in group["rules"]]
        assert [(rule["name"], rule["lastError"]) for rule in rules if rule.get("lastError")] == []
        return len(rules) >= len(RULES) > 0 and all(rule["health"] == "ok" for rule in rules)

    await eventually(evaluated)


async def test_every_expression_of_every_panel_has_data(watching: Prometheus) -> None:
    """No panel stays empty when there is traffic and everything that can go wrong has gone wrong once."""
    assert await finally_answered(watching, list(of_panels())) == []


async def test_every_expression_of_every_rule_has_data(watching: Prometheus) -> None:
    """No rule is silent because what it asks for, or one of the metrics in it, does not exist."""
    assert await finally_answered(watching, [*of_rules(), *of_metrics()]) == []


async def test_the_choices_of_the_dashboards_are_the_centres(watching: Prometheus) -> None:
    """The variables of the dashboards find every centre, and the peers of one."""

    async def chosen(label: str, match: str, found: Iterable[str]) -> bool:
        return bool(await watching.get(f"label/{label}/values", **{"match[]": match}) == list(found))

    await eventually(partial(chosen, "centre", 'relay_build_info{centre!=""}', RUNNING))
    await eventually(partial(chosen, "peer", f'relay_peer_silent{{centre="{A}"}}', (B, C)))


async def test_what_nobody_answers_is_found_out(watching: Prometheus) -> None:
    """The tests above would name an expression whose metric does not exist, and one that only ever divides by nothing."""
    asked = [Asked("one", "relay_invented"), Asked("two", f'up{{centre="{A}"}}'), Asked("three", "vector(0) / vector(0)")]
    assert await unanswered(watching, asked) == ["one: relay_invented", "three: vector(0) / vector(0)"]
