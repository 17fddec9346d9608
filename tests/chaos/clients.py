"""A centre's own system in a campaign: submits at a given pace, takes and acknowledges, and keeps its journal.

It behaves as an integrator's system should. Whatever goes wrong with a request, it asks again with the same idempotency key, or
acknowledges the same ids again. A message has its effect when the acknowledgement is answered with success; one that is handed
over after that is written down as a second effect.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2

from tests.chaos.journal import Journal, digest, spell
from tests.chaos.traffic import Said

BATCH = 50
TAKE = 200
WAIT_SECONDS = 2
PAUSE_SECONDS = 0.2
ANSWER_SECONDS = 20.0
AGAIN = (408, 429, 500, 502, 503, 504, 507)


class System:
    """The system of one centre; ``submitted`` and ``seen`` count what it did."""

    def __init__(self, centre: str, listen: str, token: str, journal: Journal, health: str) -> None:
        self.centre = centre
        self._ready = f"http://{health}/readyz"
        self.submitted = self.promised = self.seen = 0
        self.ids: list[str] = []
        self._journal = journal
        self._client = httpx2.AsyncClient(
            base_url=f"http://{listen}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close connections and journal."""
        await self._client.aclose()
        self._journal.close()

    async def ready(self) -> bool:
        """Return whether the node says that it can do its work."""
        try:
            return (await self._client.get(self._ready, headers={"Authorization": ""})).status_code == 200
        except httpx2.TransportError:
            return False

    async def submit(self, said: Sequence[Said], seconds: float = 0) -> None:
        """Submit everything, evenly over some seconds; what a fault holds up is caught up with."""
        started = time.monotonic()
        for part in _parts(said):
            pause = started + seconds * self.submitted / len(said) - time.monotonic()
            await asyncio.sleep(max(pause, 0))
            await self._tell(part)

    async def take(self) -> None:
        """Take and acknowledge until cancelled."""
        while True:
            answer = await self._ask("GET", "/v1/inbox", params={"limit": TAKE, "wait": WAIT_SECONDS})
            if handed := answer.json().get("messages"):
                await self._acknowledge(handed)

    async def state(self, message: str) -> dict[str, Any]:
        """Return what the node says of a message."""
        state: dict[str, Any] = (await self._ask("GET", f"/v1/messages/{message}")).json()
        return state

    async def _tell(self, part: Sequence[Said]) -> None:
        digests = [digest(one.raw) for one in part]
        await self._write([{"event": "asked", "digest": one} for one in digests])
        if part[0].alone:
            answers = [(await self._post("/v1/messages", part[0].raw, part[0].key)).json()]
        else:
            answer = await self._post("/v1/messages/batch", b"\n".join(one.raw for one in part), part[0].key)
            answers = (
                [json.loads(line) for line in answer.text.splitlines()] if answer.is_success else [answer.json()] * len(part)
            )
        await self._write([_promise(one, answer) for one, answer in zip(digests, answers, strict=True)])
        self.submitted += len(part)
        self.promised += sum(len(answer.get("recipients", ())) for answer in answers)
        self.ids += [answer["id"] for answer in answers if "id" in answer]

    async def _acknowledge(self, handed: list[dict[str, Any]]) -> None:
        ids = [one["id"] for one in handed]
        answer = (await self._ask("POST", "/v1/inbox/ack", json={"ids": ids, "confirmed": ids})).json()
        missing = {*answer.get("unknown", ()), *answer.get("unconfirmed", ())}
        effects = [one for one in handed if one["id"] not in missing]
        await self._write([_effect(one) for one in effects])
        self.seen += len(effects)

    async def _write(self, events: list[dict[str, Any]]) -> None:
        await asyncio.to_thread(self._journal.write, events)

    async def _post(self, path: str, content: bytes, key: str) -> httpx2.Response:
        return await self._ask("POST", path, content=content, headers={"Idempotency-Key": key})

    async def _ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Ask until there is a final answer; a node that is away, busy or full is asked again."""
        while True:
            try:
                answer = await self._client.request(method, path, **more)
            except httpx2.TransportError:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if answer.status_code not in AGAIN:
                return answer
            await asyncio.sleep(PAUSE_SECONDS)


def _parts(said: Sequence[Said]) -> Iterator[list[Said]]:
    """Cut messages into batches, those to be submitted alone apart."""
    part: list[Said] = []
    for one in said:
        if one.alone:
            yield [one]
            continue
        part.append(one)
        if len(part) == BATCH:
            yield part
            part = []
    if part:
        yield part


def _promise(message: str, answer: dict[str, Any]) -> dict[str, Any]:
    if "id" in answer:
        return {"event": "accepted", "digest": message, "id": answer["id"], "recipients": answer["recipients"]}
    return {"event": "refused", "digest": message, "answer": answer}


def _effect(handed: dict[str, Any]) -> dict[str, Any]:
    return {"event": "seen", "digest": digest(spell(handed["message"])), "id": handed["id"], "origin": handed["origin"]}
