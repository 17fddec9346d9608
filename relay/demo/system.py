"""A centre's own system, as a client of its node: submits with idempotency keys, takes, acknowledges, and keeps a journal.

It behaves as an integrator's system should: whatever goes wrong with a request, it asks again with the same key, or
acknowledges the same ids again. A message takes effect when its acknowledgement is answered with success; one handed over after
that is written down as a second effect, for the reconciliation to find. A restriction in words (H3) is confirmed with the
acknowledgement.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from relay.demo.journal import Journal, Submitted, Took, digest, spell
from relay.demo.traffic import Told

BATCH = 100
PACED_BATCH = 5
TAKE = 500
WAIT_SECONDS = 5
PAUSE_SECONDS = 0.2
PUT_OFF_SHARE = 0.02
PUT_OFF = {"code": "case-file-locked", "reason": "The case file is being edited.", "retry_after": 90}
MARKS = ("crime_types", "countries", "nominal")


class DemoFailed(Exception):
    """The demonstration can't go on: a node gave an answer that no retry will change."""


@dataclass(slots=True)
class Tally:
    """What a system did so far; ``first_taken`` by the monotonic clock.

    ``ids`` are of the messages that it took, ``recalled`` of those that cancels told it to purge.
    """

    submitted: int = 0
    promised: int = 0
    promised_to: Counter[str] = field(default_factory=Counter)
    taken: int = 0
    first_taken: float | None = None
    ids: set[str] = field(default_factory=set)
    recalled: set[str] = field(default_factory=set)


class System:
    """The system of one centre."""

    def __init__(self, centre: str, listen: str, token: str, journal: Journal, health: str) -> None:
        self.centre = centre
        self._ready = f"http://{health}/readyz"
        self.tally = Tally()
        self._journal: Journal | None = journal
        self._puts_off = 0.0
        self._put_off: set[str] = set()
        self._client = httpx2.AsyncClient(
            base_url=f"http://{listen}", headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
        )

    async def close(self) -> None:
        """Close connections and journal."""
        await self._client.aclose()
        self.forget()

    def forget(self) -> None:
        """Count from now on, and write and remember nothing else: what has no end must not grow.

        From now on the system puts some messages off for a while, as one in life does.
        """
        if self._journal is not None:
            self._journal.close()
        self._journal = None
        self._puts_off = PUT_OFF_SHARE
        self.tally.ids.clear()
        self.tally.recalled.clear()

    async def ready(self) -> bool:
        """Return whether the node says that it can do its work."""
        try:
            return (await self._client.get(self._ready, headers={"Authorization": ""})).status_code == 200
        except httpx2.TransportError:
            return False

    async def submit(self, told: Sequence[Told], seconds: float = 0.0) -> None:
        """Submit everything: urgent messages one by one, the rest in batches, small ones when spread evenly over ``seconds``."""
        size, began = PACED_BATCH if seconds else BATCH, time.monotonic()
        for start in range(0, len(told), size):
            await asyncio.sleep(max(began + seconds * start / len(told) - time.monotonic(), 0))
            part = told[start : start + size]
            for one in (one for one in part if one.urgent):
                await self.tell(one)
            if rest := [one for one in part if not one.urgent]:
                answer = await self._post("/v1/messages/batch", b"\n".join(one.raw for one in rest), rest[0].case)
                at = time.monotonic()
                for one, line in zip(rest, answer.text.splitlines(), strict=True):
                    self._promise(one, json.loads(line), at)

    async def tell(self, told: Told) -> dict[str, Any]:
        """Submit one message; return the node's answer."""
        answer: dict[str, Any] = (await self._post("/v1/messages", told.raw, told.case)).json()
        self._promise(told, answer, time.monotonic())
        return answer

    async def state(self, message_id: str) -> dict[str, Any]:
        """Return what the node says of a message that this system submitted."""
        state: dict[str, Any] = (await self._request("GET", f"/v1/messages/{message_id}")).json()
        return state

    async def take(self) -> None:
        """Take and acknowledge until cancelled."""
        while True:
            answer = await self._request("GET", "/v1/inbox", params={"limit": TAKE, "wait": WAIT_SECONDS})
            handed = answer.json()["messages"]
            for late in [one for one in handed if self._is_late(one["id"])]:
                await self._request("POST", "/v1/inbox/nack", json={"id": late["id"], **PUT_OFF})
                handed.remove(late)
            if handed:
                await self._acknowledge(handed)

    def _is_late(self, message_id: str) -> bool:
        """Return whether to put a message off; none is put off twice."""
        if message_id in self._put_off:
            self._put_off.remove(message_id)
            return False
        if late := random.random() < self._puts_off:  # noqa: S311 - no secret
            self._put_off.add(message_id)
        return late

    async def _acknowledge(self, handed: list[dict[str, Any]]) -> None:
        ids = [one["id"] for one in handed]
        restricted = [one["id"] for one in handed if one["handling"] == "H3"]
        await self._request("POST", "/v1/inbox/ack", json={"ids": ids, "confirmed": restricted})
        at = time.monotonic()
        self.tally.taken += len(handed)
        if self.tally.first_taken is None:
            self.tally.first_taken = at
        if self._journal is not None:
            self._journal.write(*(_took(one, at) for one in handed))
            self.tally.ids.update(ids)
            self.tally.recalled.update(reference["id"] for one in handed if (reference := _cancelled(one["message"])))

    async def _post(self, path: str, content: bytes, key: str) -> httpx2.Response:
        return await self._request("POST", path, content=content, headers={"Idempotency-Key": key})

    async def _request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Ask until there is an answer; a node that is away or busy is asked again, a refusal ends the demonstration."""
        while True:
            try:
                answer = await self._client.request(method, path, **more)
            except httpx2.TransportError:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if answer.is_success:
                return answer
            if answer.status_code not in (408, 429, 503, 507):
                raise DemoFailed(f"{self.centre} answered {answer.status_code} to {method} {path}: {answer.text}")
            await asyncio.sleep(PAUSE_SECONDS)

    def _promise(self, told: Told, answer: dict[str, Any], at: float) -> None:
        if "id" not in answer:
            raise DemoFailed(f"{self.centre} refused {told.case}: {answer}")
        recipients, withdrawn_from = tuple(answer["recipients"]), tuple(answer.get("withdrawn_from", ()))
        if self._journal is not None:
            self._journal.write(Submitted(digest(told.raw), recipients, told.updates, withdrawn_from, at))
        self.tally.submitted += 1
        self.tally.promised += len(recipients) + len(withdrawn_from)
        self.tally.promised_to.update(recipients + withdrawn_from)


def _took(handed: dict[str, Any], at: float) -> Took:
    message = handed["message"]
    kind = message["message"]["kind"] if message["kind"] == "update" else message["kind"]
    marks = {"kind": kind, **{mark: message[mark] for mark in MARKS}}
    cancelled = _cancelled(message)
    return Took(digest(spell(message)), handed["origin"], marks, cancelled["digest"] if cancelled else "", at)


def _cancelled(message: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the reference of a cancel to what it takes back; None for any other message."""
    references = message["references"] if message["kind"] == "cancel" else ()
    return next((one for one in references if one["relation"] == "cancels"), None)
