"""The path through the local API: NDJSON in at the sender, pull and acknowledge at the receiver, from threads of this process."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from relay.network import Network
from tests.bench.material import RECEIVER, SENDER

LINES = 100
SUBMITTERS = 8
PULLED = 500


class Caller:
    """A kept-alive connection to a centre's API."""

    def __init__(self, network: Network, centre: str) -> None:
        self._connection = http.client.HTTPConnection(network.listen(centre), timeout=60)
        self._headers = {"Authorization": f"Bearer {network.token(centre, 'system')}"}

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """Return the answer's body; anything but success raises ``RuntimeError``."""
        self._connection.request(method, path, body, {**self._headers, "Content-Type": kind})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content


def carry(network: Network, load: Sequence[bytes]) -> tuple[int, int]:
    """Submit everything and take everything; return how many messages came, and how many distinct ids."""
    batches = [b"\n".join(load[at : at + LINES]) for at in range(0, len(load), LINES)]
    with ThreadPoolExecutor(SUBMITTERS + 1) as threads:
        pulled = threads.submit(_pull, network, len(load))
        shares = [batches[share::SUBMITTERS] for share in range(SUBMITTERS)]
        for submitted in [threads.submit(_submit, network, share) for share in shares]:
            submitted.result()
        ids = pulled.result()
    return len(ids), len(set(ids))


def _submit(network: Network, batches: Sequence[bytes]) -> None:
    caller = Caller(network, SENDER)
    for batch in batches:
        answer = caller.ask("POST", "/v1/messages/batch", batch, "application/x-ndjson")
        if b'"problem"' in answer:
            raise RuntimeError(answer.decode()[:300])


def _pull(network: Network, count: int) -> list[str]:
    caller, ids = Caller(network, RECEIVER), list[str]()
    while len(ids) < count:
        answer: dict[str, Any] = json.loads(caller.ask("GET", f"/v1/inbox?limit={PULLED}&wait=10"))
        taken = [one["id"] for one in answer["messages"]]
        if taken:
            caller.ask("POST", "/v1/inbox/ack", json.dumps({"ids": taken}).encode())
        ids += taken
    return ids
