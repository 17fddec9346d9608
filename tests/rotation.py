"""A network whose keys change: what its tests and its measurement share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from relay import messages
from relay.cli import keyfiles
from relay.cli.key import public
from relay.cli.keyfiles import KeyFile
from relay.keyring import Use
from relay.settings import load
from relay.store import outgoing
from relay.submissions import Stored, Submission
from tests.live import Live, eventually, message, redirect

HOUR = timedelta(hours=1)
AT_ONCE = 250
PATIENCE = 120.0


def now() -> datetime:
    """Return the time, to the second, as directories have it."""
    return datetime.now(UTC).replace(microsecond=0)


def new_key(live: Live, centre: str, use: Use) -> KeyFile:
    """Make a new private key of a centre that does not run, and name it in its settings."""
    config = live.network.node_file(centre)
    settings = load(config)
    made = keyfiles.make(settings, use, now())
    assert keyfiles.rewrite(config, use, [made.path, *getattr(settings.keys, use)])
    return made


def listed(made: KeyFile, start: datetime, end: datetime) -> dict[str, str]:
    """Return a key as the directory lists it."""
    return public(made, start, end)


def age_keys(live: Live) -> None:
    """Let every key of the directory be a day old, so that those which follow are newer."""

    def edit(register: dict[str, Any]) -> None:
        for key in (key for member in register["members"] for key in member["keys"]):
            key["valid_from"] = (now() - 24 * HOUR).isoformat()

    live.network = redirect(live.network, edit)


def change_keys(
    live: Live, centre: str, change: Callable[[list[dict[str, Any]]], object], *, at: Iterable[str] | None = None
) -> None:
    """Change the keys of a centre in the directory; the nodes that run go by it at once, or those ``at``."""

    def edit(register: dict[str, Any]) -> None:
        change(next(member for member in register["members"] if member["id"] == centre)["keys"])

    live.network = redirect(live.network, edit)
    for name in at if at is not None else list(live.nodes):
        live[name].centre.adopt(live.network.directory)


def add(made: KeyFile, start: datetime | None = None) -> Callable[[list[dict[str, Any]]], None]:
    """Return a change that lists a key, valid since an hour ago unless said otherwise."""
    since = start or now() - HOUR
    return lambda keys: keys.append(listed(made, since, since + timedelta(days=700)))


def alter(id_: str, **fields: datetime) -> Callable[[list[dict[str, Any]]], None]:
    """Return a change of a listed key."""

    def change(keys: list[dict[str, Any]]) -> None:
        next(key for key in keys if key["id"] == id_).update({name: one.isoformat() for name, one in fields.items()})

    return change


def first_key(live: Live, centre: str, use: Use) -> str:
    """Return the id of the key with which a centre began."""
    members = {member.id: member for member in live.network.directory.members}
    return next(key.id for key in members[centre].keys if key.use == use)


async def submit_many(live: Live, origin: str, to: str, count: int, *, name: str) -> list[str]:
    """Submit messages, many at once; return their ids."""
    ids: list[str] = []
    for start in range(0, count, AT_ONCE):
        raws = [message(case_number=f"{name}-{n}", to=[to]) for n in range(start, min(start + AT_ONCE, count))]
        outcomes = await live[origin].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
        assert all(isinstance(one, Stored) for one in outcomes), outcomes
        ids += [one.id for one in outcomes if isinstance(one, Stored)]
    return ids


async def sent(live: Live, origin: str, seconds: float = PATIENCE) -> None:
    """Wait until everything that a centre submitted lies in the broker."""

    async def gone() -> bool:
        return not await live[origin].centre.store.read(lambda connection: outgoing.due(connection, 0, 1))

    await eventually(gone, seconds)


async def take_exactly(live: Live, centre: str, ids: Iterable[str], seconds: float = PATIENCE) -> None:
    """Take messages at a centre until these came, and find that each came once and nothing else did."""
    missing, taken = set(ids), list[str]()
    async with asyncio.timeout(seconds):
        while missing - set(taken):
            taken += [one.id for one in await live.take(centre, wait=1)]
    taken += [one.id for one in await live.take(centre, wait=0)]
    assert len(taken) == len(set(taken))
    assert set(taken) == missing


def counted(live: Live, centre: str, name: str) -> float:
    """Return the sum of one of a node's counters over all its labels."""
    found = getattr(live[centre].centre.metrics, name).collect()
    values: list[float] = [sample.value for one in found for sample in one.samples if sample.name.endswith("_total")]
    return sum(values)
