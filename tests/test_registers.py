"""A running network goes over to another directory: by file, by HTTP, by a peer; who is suspended, who joins, what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay import messages
from relay.audit import AuditStep
from relay.directory import Bundle, Directory, Signatures, Signed, digest, sign, write_bundle
from relay.errors import NotReady, RelayError
from relay.keys import SigningKey
from relay.network import Network
from relay.outbox import Submission
from relay.rabbit import PrivateBroker
from relay.store import directories, record
from tests.live import Live, eventually, message, private_network

A, B, C = CENTRES = ("REGA", "REGB", "REGC")
ANSWER = 30


class Authorities:
    """Signs versions of a network's directory, each on top of the one before."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.raw = (network.folder / "directory.json").read_bytes()

    def next(self, *by: str, **changes: Any) -> Bundle:
        """Return a bundle with the next version, signed by some or all; ``changes`` replace fields."""
        fields = {**json.loads(self.raw), **changes}
        fields |= {"version": json.loads(self.raw)["version"] + 1, "previous": digest(self.raw)}
        self.raw = json.dumps(fields | {key: value for key, value in changes.items() if key == "version"}).encode()
        Directory.model_validate_json(self.raw)
        return Bundle((), (Signed(self.raw, self.signatures(self.raw, *by)),))

    def signatures(self, raw: bytes, *by: str) -> bytes:
        """Return the signatures of some authorities, or all, over these bytes."""
        folder = self.network.folder / "authorities"
        ids = by or tuple(authority.id for authority in self.network.root.authorities)
        made = (sign(raw, id_, SigningKey.load(folder / id_ / "key-1.pem")) for id_ in ids)
        return Signatures(signatures=tuple(made)).model_dump_json().encode()

    def members(self, **changes: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the members, some of them changed."""
        return [member | changes.get(member["id"], {}) for member in json.loads(self.raw)["members"]]

    def suspend(self, centre: str) -> Bundle:
        """Return a bundle in which a member is suspended."""
        return self.next(members=self.members(**{centre: {"status": "suspended"}}))


@pytest.fixture
def authorities(broker: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Authorities]:
    """Write a network whose nodes look at their files, and say that they live, more often than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.3")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "0.5")
        patch.setenv("RELAY_DIRECTORY__POLL_SECONDS", "0.2")
        patch.setenv("RELAY_DIRECTORY__URL_SECONDS", "0.2")
        yield Authorities(private_network(tmp_path / "network", broker, f"reg-{abs(hash(request.node.name))}", CENTRES))


@pytest.fixture
async def live(authorities: Authorities, broker: PrivateBroker) -> AsyncIterator[Live]:
    """Run A and B."""
    nodes = Live(authorities.network, broker)
    await nodes.start(A, B)
    yield nodes
    await nodes.close()


def goes_by(live: Live, version: int, *centres: str) -> Any:
    """Return a condition: these nodes go by this version."""
    return lambda: all(live[one].centre.directory.version == version for one in centres or live.nodes)


async def steps(live: Live, centre: str) -> list[dict[str, Any]]:
    """Return the leaves of a centre's record that speak of the directory."""
    store = live[centre].centre.store
    leaves = await store.read(lambda connection: record.leaves(connection, store.epoch))
    return [leaf for leaf in map(json.loads, leaves) if leaf["step"].startswith("directory-")]


async def refusal(live: Live, centre: str, raw: bytes) -> list[str]:
    """Return why a node refuses a message."""
    outcome = (await live[centre].outbox.submit([Submission(raw, messages.parse(raw))]))[0]
    assert isinstance(outcome, RelayError), outcome
    return [problem.code for problem in outcome.problems] or [outcome.code]


async def test_a_version_in_the_files_of_one_node_is_soon_in_force_everywhere(live: Live, authorities: Authorities) -> None:
    """A takes it from its file, B from A; both have it in store and record."""
    write_bundle(authorities.next(), live.network.centre(A))
    await eventually(goes_by(live, 2), ANSWER)
    for centre, code in ((A, "files"), (B, "peer")):
        kept = await live[centre].centre.store.read(directories.newest)
        assert kept is not None
        assert (kept.version, kept.digest, kept.source) == (2, digest(authorities.raw), code)
        assert [(leaf["step"], leaf["code"]) for leaf in await steps(live, centre)] == [
            (AuditStep.DIRECTORY_CHANGED, "start"),
            (AuditStep.DIRECTORY_CHANGED, code),
        ]
    stored = await live.submit(A, message(to=[B]))
    await live.reaches(A, stored.id, B, "accepted", ANSWER)


async def test_a_node_that_was_off_meanwhile_is_told_by_a_peer(live: Live, authorities: Authorities) -> None:
    """C has the first version in its files and goes by the newest at once when it comes back."""
    await live.start(C)
    await live.stop(C)
    write_bundle(authorities.next(), live.network.centre(A))
    write_bundle(authorities.next(), live.network.centre(A))
    await eventually(goes_by(live, 3), ANSWER)
    await live.start(C)
    await eventually(goes_by(live, 3, C), ANSWER)
    await live.stop(C)
    await live.start(C)
    assert goes_by(live, 3, C)(), "the store knows it, whatever the files say"


async def test_a_suspended_centre_stops_and_is_sent_nothing(live: Live, authorities: Authorities) -> None:
    """Within seconds it takes and publishes nothing, and says so; what it had not got ends as dead, and comes once it is back."""
    write_bundle(authorities.suspend(B), live.network.centre(A))
    await eventually(goes_by(live, 2), ANSWER)
    trouble = live[B].full()
    assert isinstance(trouble, NotReady)
    assert trouble.code == "centre-suspended"
    assert trouble.detail in (await live[B].health()).problems
    assert await refusal(live, B, message(to=[A])) == ["centre-suspended"]
    assert await refusal(live, A, message(to=[B])) == ["unknown-recipient"]
    assert (await live[A].health()).ready
    write_bundle(authorities.next(members=authorities.members(**{B: {"status": "active"}})), live.network.centre(A))
    write_bundle(Bundle((), (Signed(authorities.raw, authorities.signatures(authorities.raw)),)), live.network.centre(B))
    await eventually(goes_by(live, 3), ANSWER)
    assert live[B].full() is None
    stored = await live.submit(A, message(to=[B]))
    await live.reaches(A, stored.id, B, "accepted", ANSWER)


async def test_what_was_open_towards_a_suspended_centre_waits_and_comes_when_it_is_back(
    live: Live, authorities: Authorities
) -> None:
    """It is dead meanwhile, for an operator to see; so is what B's system took of A while A was suspended: its receipt waits."""
    await live.stop(B)
    stored = await live.submit(A, message(to=[B]))
    await live.reaches(A, stored.id, B, "sent", ANSWER)
    write_bundle(authorities.suspend(B), live.network.centre(A))
    await live.reaches(A, stored.id, B, "dead", ANSWER)
    write_bundle(authorities.next(members=authorities.members(**{B: {"status": "active"}})), live.network.centre(A))
    await eventually(goes_by(live, 3, A), ANSWER)
    await live.start(B)
    await live.reaches(A, stored.id, B, "accepted", ANSWER)
    write_bundle(authorities.suspend(A), live.network.centre(B))
    await eventually(goes_by(live, 4, B), ANSWER)
    assert [one.id for one in await live.take(B, ANSWER)] == [stored.id], "its system is not held up"
    back = authorities.next(members=authorities.members(**{A: {"status": "active"}}))
    write_bundle(back, live.network.centre(B))
    write_bundle(back, live.network.centre(A))
    await live.reaches(A, stored.id, B, "delivered", ANSWER)


async def test_a_member_joins_and_the_others_need_no_restart(broker: PrivateBroker, tmp_path: Path) -> None:
    """The new one starts with a directory that nobody else has; the others take it from it, and it is sent messages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "0.5")
        whole = private_network(tmp_path / "network", broker, "registers-joins", ("REGJ", "REGK", "REGL"))
        authorities = Authorities(whole)
        everyone = json.loads(authorities.raw)["members"]
        authorities.raw = b'{"version": 0}'
        first = {**json.loads((whole.folder / "directory.json").read_bytes()), "members": everyone[:2], "version": 1}
        authorities.raw = json.dumps(first).encode()
        two = Bundle((), (Signed(authorities.raw, authorities.signatures(authorities.raw)),))
        for centre in ("REGJ", "REGK"):
            write_bundle(two, whole.centre(centre))
        live = Live(whole, broker)
        await live.start("REGJ", "REGK")
        try:
            assert live["REGJ"].centre.directory.member("REGL") is None
            write_bundle(authorities.next(members=everyone), whole.centre("REGL"))
            await live.start("REGL")
            await eventually(goes_by(live, 2), ANSWER)
            stored = await live.submit("REGJ", message(to=["REGL"]))
            await live.reaches("REGJ", stored.id, "REGL", "accepted", ANSWER)
        finally:
            await live.close()
