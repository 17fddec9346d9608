"""A running network goes over to another directory: by file, by HTTP, by a peer; who is suspended, who joins, what is refused."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay import messages
from relay.audit import AuditStep
from relay.centre import Centre
from relay.clock import now_ms
from relay.directory import MAX_BUNDLE_BYTES, Bundle, Directory, Signatures, Signed, digest, write_bundle
from relay.envelope import new_id
from relay.errors import NotReady, RelayError
from relay.keys import SigningKey
from relay.network import Network
from relay.node import Node
from relay.rabbit import PrivateBroker
from relay.seal import Addressee, Draft, Sealer
from relay.store import directories, peers, record
from relay.submissions import Submission
from tests.live import Live, eventually, message, private_network, signatures

A, B, C = CENTRES = ("REGA", "REGB", "REGC")
ANSWER = 60


class Authorities:
    """Signs versions of a network's directory, each on top of the one before."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.raw = (network.folder / "directory.json").read_bytes()

    def next(self, **changes: Any) -> Bundle:
        """Return a bundle with the next version, signed by all; ``changes`` replace fields."""
        fields = {**json.loads(self.raw), **changes, "previous": digest(self.raw)}
        self.raw = json.dumps(fields | {"version": fields["version"] + 1}).encode()
        Directory.model_validate_json(self.raw)
        return self.bundle()

    def bundle(self) -> Bundle:
        """Return a bundle with the version that was made last."""
        return Bundle((), (Signed(self.raw, signatures(self.network, self.raw)),))

    def members(self, **changes: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the members, some of them changed."""
        return [member | changes.get(member["id"], {}) for member in json.loads(self.raw)["members"]]

    def suspend(self, centre: str) -> Bundle:
        """Return a bundle in which a member is suspended, on the word of one authority."""
        before = self.bundle().versions
        self.next(members=self.members(**{centre: {"status": "suspended"}}))
        every = Signatures.model_validate_json(signatures(self.network, self.raw)).signatures
        one = Signatures(signatures=every[:1]).model_dump_json().encode()
        return Bundle((), (*before, Signed(self.raw, one)))


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


async def is_ready(node: Node) -> bool:
    """Return whether a node can do its work, its connection to the broker included."""
    return (await node.health()).ready


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
    await eventually(lambda: is_ready(live[A]), ANSWER)
    write_bundle(authorities.next(members=authorities.members(**{B: {"status": "active"}})), live.network.centre(A))
    write_bundle(authorities.bundle(), live.network.centre(B))
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
        authorities.raw = json.dumps({**json.loads(authorities.raw), "members": everyone[:2]}).encode()
        for centre in ("REGJ", "REGK"):
            write_bundle(authorities.bundle(), whole.centre(centre))
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


class _Web(http.server.BaseHTTPRequestHandler):
    """Serves whatever ``served`` holds, and counts how often its body was sent."""

    served: bytes = b""
    tag: str | None = None
    sent = 0

    def do_GET(self) -> None:
        """Answer 200 with the body, or 304 to who has it."""
        tag = self.tag or f'"{digest(self.served)}"'
        known = self.headers.get("If-None-Match") == tag
        self.send_response(304 if known else 200)
        self.send_header("ETag", tag)
        self.end_headers()
        if not known:
            type(self).sent += 1
            self.wfile.write(self.served)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
        """Say nothing."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Web]]:
    """Run a web server at the URL that the nodes' settings name."""
    handler = type("Handler", (_Web,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("RELAY_DIRECTORY__URL", f"http://127.0.0.1:{server.server_port}/directory.bundle")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield handler
        server.shutdown()
        thread.join()


async def test_a_version_comes_by_http(
    web: type[_Web], authorities: Authorities, broker: PrivateBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no directory, and what is too large, is said and changes nothing; what stays the same is fetched once."""
    live = Live(authorities.network, broker)
    web.served = b"no bundle"
    await live.start(A)
    try:
        await eventually(lambda: "bad-bundle" in capsys.readouterr().out, ANSWER)
        web.served = bytes(MAX_BUNDLE_BYTES + 1)
        await eventually(lambda: "directory-too-large" in capsys.readouterr().out, ANSWER)
        web.served = authorities.next().pack()
        await eventually(goes_by(live, 2), ANSWER)
        sent = web.sent
        await asyncio.sleep(0.7)
        assert web.sent == sent
        kept = await live[A].centre.store.read(directories.newest)
        assert kept is not None
        assert kept.source == "http"
    finally:
        await live.close()


async def test_a_server_that_says_what_no_server_may_ends_nothing(
    web: type[_Web], authorities: Authorities, broker: PrivateBroker
) -> None:
    """A tag in letters that no header may have is not said back: the version comes, and so does the next."""
    web.tag = '"\xe9t\xe9"'
    live = Live(authorities.network, broker)
    web.served = authorities.next().pack()
    await live.start(A)
    try:
        await eventually(goes_by(live, 2), ANSWER)
        web.served = authorities.next().pack()
        await eventually(goes_by(live, 3), ANSWER)
    finally:
        await live.close()


async def test_files_that_went_back_are_no_way_back(
    authorities: Authorities, broker: PrivateBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A restart with older files goes on with the store's version; so does one with files that are damaged."""
    live, folder = Live(authorities.network, broker), authorities.network.centre(A)
    shutil.copytree(folder, tmp_path / "old", ignore=shutil.ignore_patterns("store"))
    write_bundle(authorities.next(), folder)
    try:
        await live.start(A)
        await live.stop(A)
        (folder / "directory.bundle").unlink()
        for name in ("directory.json", "directory.signatures.json"):
            shutil.copy(tmp_path / "old" / name, folder / name)
        await live.start(A)
        assert goes_by(live, 2)()
        assert "directory-rollback" in capsys.readouterr().out
        await live.stop(A)
        (folder / "directory.json").write_bytes(b"{")
        await live.start(A)
        assert goes_by(live, 2)()
        assert "directory-unsigned" in capsys.readouterr().out
    finally:
        await live.close()


async def test_a_half_written_file_is_no_error_until_it_stays_so(
    live: Live, authorities: Authorities, capsys: pytest.CaptureFixture[str]
) -> None:
    """The register's file without its new signatures waits; with them it is in force, and nothing was refused."""
    signed = authorities.next().versions[0]
    folder = live.network.centre(A)
    (folder / "directory.json").write_bytes(signed.raw)
    await asyncio.sleep(0.25)
    (folder / "directory.signatures.json").write_bytes(signed.signatures)
    await eventually(goes_by(live, 2), ANSWER)
    (folder / "directory.json").write_bytes(authorities.next().versions[0].raw)
    await eventually(lambda: "directory-unsigned" in capsys.readouterr().out, ANSWER)
    assert goes_by(live, 2)()
    await eventually(lambda: is_ready(live[A]), ANSWER)


async def test_two_directories_of_one_version_are_noticed_and_kept(live: Live, authorities: Authorities) -> None:
    """Each node keeps its own and the other's as evidence, raises an alarm about the peer, and says so in its record."""
    first = authorities.raw
    one = authorities.next(warn_after=(datetime.now(UTC) + timedelta(days=10)).isoformat())
    authorities.raw = first
    other = authorities.next(warn_after=(datetime.now(UTC) + timedelta(days=20)).isoformat())
    await live.stop(B)
    write_bundle(one, live.network.centre(A))
    await eventually(goes_by(live, 2), ANSWER)
    write_bundle(other, live.network.centre(B))
    await live.start(B)

    async def kept() -> bool:
        found = [await live[centre].centre.store.read(directories.evidence) for centre in (A, B)]
        return [[digest(Bundle.unpack(item.bundle).versions[-1].raw) for item in items] for items in found] == [
            [digest(other.versions[0].raw)],
            [digest(one.versions[0].raw)],
        ]

    await eventually(kept, ANSWER)
    assert goes_by(live, 2)()
    alarms = await live[A].centre.store.read(peers.alarms)
    assert alarms[B].code in ("directory-fork", "directory-mismatch")
    assert AuditStep.DIRECTORY_CONTRADICTED in [leaf["step"] for leaf in await steps(live, A)]


async def test_a_directory_that_expires_stops_new_messages_until_a_newer_one_comes(
    live: Live, authorities: Authorities, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipts go on meanwhile; a message that comes is taken once the next version is there."""
    before = await live.submit(A, message(to=[B], case_number="BEFORE"))
    await live.reaches(A, before.id, B, "accepted", ANSWER)
    soon = datetime.now(UTC) + timedelta(minutes=30)
    write_bundle(authorities.next(warn_after=soon.isoformat(), expires_at=soon.isoformat()), live.network.centre(A))
    await eventually(goes_by(live, 2), ANSWER)
    right = Centre.now
    monkeypatch.setattr(Centre, "now", lambda one: right(one) + 40 * 60_000)  # a real end could come before they have it
    assert live[A].full() is not None
    assert live[B].full() is not None
    assert await refusal(live, A, message(to=[B])) == ["directory-expired"]
    assert not (await live[A].health()).ready
    await eventually(lambda: "directory.expired" in capsys.readouterr().out, ANSWER)
    assert [one.id for one in await live.take(B, ANSWER)] == [before.id]
    assert "delivered" in await live.reaches(A, before.id, B, "delivered", ANSWER)
    sealed = live.seal(A, [B], [message(to=[B], case_number="MEANWHILE")], first=2)
    await live.inject(A, B, sealed.raw)
    await eventually(lambda: waiting(live[B]) == 1, ANSWER)
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    write_bundle(authorities.next(warn_after=later, expires_at=later), live.network.centre(B))
    await eventually(goes_by(live, 3), ANSWER)
    assert live[A].full() is None
    assert [one.id for one in await live.take(B, ANSWER)] == [sealed.envelope.core.messages[0].id]


def waiting(node: Node) -> int:
    """Return how many envelopes wait at a node for a newer directory."""
    return int(node.centre.metrics.registry.get_sample_value("relay_waiting_envelopes") or 0)


async def test_an_envelope_that_names_a_newer_directory_waits_for_it(live: Live, authorities: Authorities) -> None:
    """Signed with a key that B does not know yet, it is taken as soon as B has the directory that lists it."""
    key = SigningKey.generate()
    listed = next(one for one in json.loads(authorities.raw)["members"] if one["id"] == A)["keys"]
    signing = next(one for one in listed if one["use"] == "signing")
    new = signing | {"id": key.id, "public": base64.b64encode(key.public).decode()}
    bundle = authorities.next(members=authorities.members(**{A: {"keys": [*listed, new]}}))
    centre = live[A].centre
    draft = Draft(new_id(A), message(to=[B]), now_ms() + 3_600_000)
    sealed = Sealer(A, live.network.id, key).seal(
        "batch", "routine", [draft], [Addressee(B, centre.sealing_key(B), 1)], epoch=1, directory=2, now=now_ms()
    )
    await live.inject(A, B, sealed.raw)
    await eventually(lambda: waiting(live[B]) == 1, ANSWER)
    write_bundle(bundle, live.network.centre(B))
    assert [one.id for one in await live.take(B, ANSWER)] == [draft.id]
    await eventually(lambda: waiting(live[B]) == 0, ANSWER)


async def test_what_waits_is_bounded_and_not_for_ever(
    authorities: Authorities, broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound, and when the time is over, the directory in force decides: a sample is kept, nothing else."""
    monkeypatch.setenv("RELAY_DIRECTORY__WAITING__SECONDS", "1")
    monkeypatch.setenv("RELAY_DIRECTORY__WAITING__ENVELOPES", "2")
    live = Live(authorities.network, broker)
    await live.start(A, B)
    try:
        centre, stranger = live[A].centre, SigningKey.generate()
        for number in range(3):
            sealed = Sealer(A, live.network.id, stranger).seal(
                "batch",
                "routine",
                [Draft(new_id(A), message(to=[B]), now_ms() + 3_600_000)],
                [Addressee(B, centre.sealing_key(B), number + 1)],
                epoch=1,
                directory=9,
                now=now_ms(),
            )
            await live.inject(A, B, sealed.raw)
        dropped = live[B].centre.metrics.dropped.labels("directory-too-old")
        await eventually(lambda: dropped._value.get() >= 1, ANSWER)
        await eventually(lambda: dropped._value.get() == 3, ANSWER)
        assert waiting(live[B]) == 0
    finally:
        await live.close()
