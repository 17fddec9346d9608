"""RabbitMQ's management API, as far as the relay's topology needs it: read the state, show the difference, apply it.

The actual state is the broker's own definitions export, one request; what is to be created or changed goes back as one
import, which RabbitMQ treats as idempotent; what is to be removed goes one by one. A queue that still holds messages is
never removed or made anew unless told to: its changes are refused before anything is done.

Errors raised: ``BrokerTrouble`` with the codes ``management-unreachable`` and ``management-failed``; ``Misconfigured``
with ``management-refused``, ``management-not-encrypted``, ``bad-certificate`` and ``no-broker-password``; ``Conflict`` with
``queue-not-empty``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx2

from relay import topology
from relay.errors import BrokerTrouble, Conflict, Misconfigured, RelayError
from relay.tls import client_context, refuse_clear_management
from relay.topology import (
    Binding,
    Change,
    Exchange,
    Item,
    Permission,
    Queue,
    TopicPermission,
    Topology,
    User,
)


class Management:
    """A client of one broker's management API, for one virtual host; a context manager.

    ``ca`` holds the authorities that vouch for an ``https`` address; None means the system's.
    """

    def __init__(
        self, url: str, user: str, password: str, *, vhost: str = "/", timeout: float = 60.0, ca: Path | None = None
    ) -> None:
        refuse_clear_management(url)
        self.url = url.rstrip("/")
        self.vhost = vhost
        self._user = user
        # trust_env off: a proxy of the environment must never see an administrator's password
        self._http = httpx2.Client(
            base_url=self.url, auth=(user, password), timeout=timeout, trust_env=False, verify=client_context(ca)
        )

    def __enter__(self) -> Management:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close its connections."""
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def answers(self) -> bool:
        """Return whether the API answers and knows this account."""
        try:
            self._call("GET", "/api/whoami")
        except RelayError:
            return False
        return True

    def version(self) -> str:
        """Return the broker's version, as in ``3.10.8``."""
        return str(self._call("GET", "/api/overview").json()["rabbitmq_version"])

    def state(self) -> Topology:
        """Return what the virtual host holds now, the relay's and everybody else's."""
        return topology.from_definitions(self._export(), vhost=self.vhost)

    def plan(self, desired: Topology, passwords: Mapping[str, str] | None = None) -> list[Change]:
        """Return what :meth:`apply` would do: nothing when the broker is as desired.

        Accounts whose password differs from the one in ``passwords`` are part of it; passwords not given are not
        judged.
        """
        raw = self._export()
        stale = _stale(raw, passwords or {})
        return topology.difference(desired, topology.from_definitions(raw, vhost=self.vhost), stale=stale)

    def missing(self, desired: Topology) -> list[Item]:
        """Return what a node would miss: everything desired that is not there or not as it should be."""
        return [change.item for change in self.plan(desired) if change.action != "remove"]

    def strangers(self) -> list[Binding]:
        """Return the bindings between the relay's objects and other people's: possibly a listener."""
        return topology.strangers(self.state())

    def apply(self, changes: Sequence[Change], passwords: Mapping[str, str], *, discard: bool = False) -> None:
        """Do what a plan says. Doing it again changes nothing; interrupted, the next plan holds the rest.

        ``discard`` allows the removal of queues that hold messages; without it these are refused before anything is
        done.
        """
        upserts = [change.item for change in changes if change.action != "remove"]
        file = topology.definitions(topology.of_items(upserts), passwords, vhost=self.vhost)
        if not discard:
            self._refuse_full(change.item.name for change in changes if isinstance(change.item, Queue) and change.destroys)
        for change in changes:
            if change.replaces or (change.action == "remove" and isinstance(change.item, TopicPermission)):
                self._remove(change.item)
        if upserts:
            self._call("POST", "/api/definitions", file)
        for change in changes:
            if change.action == "remove" and not isinstance(change.item, TopicPermission):
                self._remove(change.item)

    def _export(self) -> dict[str, Any]:
        exported: dict[str, Any] = self._call("GET", "/api/definitions").json()
        return exported

    def _refuse_full(self, queues: Iterable[str]) -> None:
        full = [name for name in queues if self._holds_messages(name)]
        if full:
            raise Conflict("queue-not-empty", f"These queues still hold messages: {', '.join(full)}. Nothing was changed.")

    def _holds_messages(self, queue: str) -> bool:
        """Look into a queue: its counters lag by seconds, so take a message and put it back."""
        path = f"/api/queues/{_segment(self.vhost)}/{_segment(queue)}"
        if self._call("GET", path).json().get("messages", 0):
            return True
        look = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "base64", "truncate": 1}
        return bool(self._call("POST", f"{path}/get", look).json())

    def _remove(self, item: Item) -> None:
        vhost = _segment(self.vhost)
        match item:
            case User():
                self._delete(f"/api/users/{_segment(item.name)}")
            case Permission():
                self._delete(f"/api/permissions/{vhost}/{_segment(item.user)}")
            case TopicPermission():
                self._delete(f"/api/topic-permissions/{vhost}/{_segment(item.user)}")
            case Exchange():
                self._delete(f"/api/exchanges/{vhost}/{_segment(item.name)}")
            case Queue():
                self._delete(f"/api/queues/{vhost}/{_segment(item.name)}")
            case Binding():
                self._remove_binding(item)

    def _remove_binding(self, binding: Binding) -> None:
        to = f"{binding.destination_type[0]}/{_segment(binding.destination)}"
        path = f"/api/bindings/{_segment(self.vhost)}/e/{_segment(binding.source)}/{to}"
        for found in self._call("GET", path).json():
            if found["routing_key"] == binding.key and topology.arguments(found["arguments"]) == binding.arguments:
                self._delete(f"{path}/{_segment(found['properties_key'])}")

    def _delete(self, path: str) -> None:
        self._call("DELETE", path, gone_is_fine=True)

    def _call(self, method: str, path: str, body: object = None, *, gone_is_fine: bool = False) -> httpx2.Response:
        try:
            answer = self._http.request(method, path, json=body) if body else self._http.request(method, path)
        except httpx2.HTTPError as error:
            raise BrokerTrouble(
                "management-unreachable", f"RabbitMQ's management API at {self.url} does not answer: {error}."
            ) from error
        if answer.status_code in {401, 403}:
            raise Misconfigured("management-refused", f"RabbitMQ's management API at {self.url} refuses account {self._user}.")
        if answer.is_error and not (gone_is_fine and answer.status_code == httpx2.codes.NOT_FOUND):
            raise BrokerTrouble("management-failed", f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer


def _segment(name: str) -> str:
    return quote(name, safe="")


def _stale(raw: Mapping[str, Any], passwords: Mapping[str, str]) -> frozenset[str]:
    """Return the accounts whose password on the broker is another than the given one."""
    hashes = {user["name"]: user.get("password_hash") or "" for user in raw["users"]}
    return frozenset(
        name for name, password in passwords.items() if name in hashes and not topology.password_matches(password, hashes[name])
    )
