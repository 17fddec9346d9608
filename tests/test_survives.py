"""What is submitted is handed over, byte for byte, whatever the message; and a changed envelope never yields another content.

The messages are those of :mod:`tests.valid`: all eleven kinds, thinned, filled with any text, moved in time, spelled in any way.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from relay import codes, messages, seal
from relay import envelope as wire
from relay.directory import Directory
from relay.errors import EnvelopeError, RelayError
from relay.keys import SealingKey
from relay.rabbit import PrivateBroker
from relay.submissions import Stored, Submission
from tests import make_vectors
from tests.live import Live, private_network, redirect
from tests.make_vectors import NETWORK, NOW, SUITES, sealing
from tests.valid import documents, raw_messages, spell

DIRECTORY = Directory.model_validate_json(make_vectors.network()[1])
TO = ("BRAVO", "CHARLIE")
KEYS: dict[str, dict[str, SealingKey]] = {me: {key.id: key} for me in TO for key in [sealing(me, SUITES[me])]}
LANES = ("flash", "immediate", "priority", "routine", "exercise")
A, B, C = CENTRES = ("LIFEA", "LIFEB", "LIFEC")
RECALLS = ("update", "cancel")
JUDGED = ("origin", "exclude", "classification", "references", "retention_until")
"""Fields that policy judges by directory, store and clock; its own tests are about them."""
EACH = 4


def opened(raw: bytes, me: str) -> tuple[object, ...]:
    """Do all that a receiver does with bytes from the broker."""
    envelope = wire.parse(raw)
    seal.verify(envelope, me, NETWORK, DIRECTORY, NOW)
    return seal.unseal(envelope, me, KEYS[me]).contents


def sealed(contents: list[bytes], lane: str = "routine") -> bytes:
    """Seal messages in the name of ALFA for a recipient of either suite."""
    return make_vectors.sealed("batch", lane, contents, list(TO)).raw


def test_the_two_recipients_have_different_suites() -> None:
    """One opens with the hybrid key, the other with X25519 alone."""
    assert {SUITES[me] for me in TO} == {"mlkem768-x25519", "x25519"}


@pytest.mark.parametrize("kind", codes.KINDS)
def test_a_message_of_any_kind_survives_the_seal(kind: str) -> None:
    """What was submitted comes out at both recipients byte for byte, and reads there as the same message."""

    @settings(max_examples=30, deadline=None)
    @given(raw_messages(kind), st.sampled_from(LANES))
    def survives(raw: bytes, lane: str) -> None:
        submitted = messages.parse(raw)
        envelope = sealed([raw], lane)
        for me in TO:
            (content,) = opened(envelope, me)
            assert content == raw
        assert messages.read(raw) == submitted
        assert submitted.kind == kind

    survives()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(codes.KINDS).flatmap(raw_messages), min_size=2, max_size=12))
def test_a_batch_of_mixed_kinds_survives_the_seal(raws: list[bytes]) -> None:
    """Any messages in one envelope come out in their order, each byte for byte."""
    envelope = sealed(raws)
    for me in TO:
        assert opened(envelope, me) == tuple(raws)


CONTENTS = [(make_vectors.FOLDER.parent / "examples" / f"{kind}.minimal.json").read_bytes() for kind in ("alert", "request")]
ENVELOPE = sealed(CONTENTS)


def yields_nothing_else(raw: bytes) -> bool:
    """Return whether bytes are refused at both recipients, or give exactly what was sealed."""
    for me in TO:
        try:
            contents = opened(raw, me)
        except EnvelopeError:
            continue
        if contents != tuple(CONTENTS):
            return False
    return True


def test_what_was_not_changed_opens() -> None:
    """The envelope that the next tests change is a good one."""
    assert all(opened(ENVELOPE, me) == tuple(CONTENTS) for me in TO)


def changes(raw: bytes, at: int) -> Iterator[bytes]:
    """Yield the bytes with the one at this place changed, deleted, doubled, and swapped with the next other one."""
    yield raw[:at] + bytes([raw[at] ^ 0x01]) + raw[at + 1 :]
    yield raw[:at] + bytes([raw[at] ^ 0x80]) + raw[at + 1 :]
    yield raw[:at] + raw[at + 1 :]
    yield raw[:at] + b"\0" + raw[at:]
    yield raw[: at + 1] + raw[at:]
    other = next((place for place in range(at + 1, len(raw)) if raw[place] != raw[at]), None)
    if other is not None:
        yield raw[:at] + raw[other : other + 1] + raw[at + 1 : other] + raw[at : at + 1] + raw[other + 1 :]


def test_no_single_changed_byte_yields_another_content() -> None:
    """At every place of the envelope: changed, deleted, inserted, doubled or swapped, it is refused."""
    for at in range(len(ENVELOPE)):
        for changed in changes(ENVELOPE, at):
            with pytest.raises(EnvelopeError):
                opened(changed, TO[at % 2])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_moved_stretches_yield_another_content(data: st.DataObject) -> None:
    """Stretches cut out, put elsewhere, overwritten with others or with anything never make another message of it."""
    raw = ENVELOPE
    places = st.integers(0, len(raw))
    for _ in range(data.draw(st.integers(1, 3))):
        start, stop = sorted((data.draw(places), data.draw(places)))
        piece = data.draw(st.one_of(st.just(b""), st.just(raw[start:stop]), st.binary(max_size=40)))
        at = data.draw(places)
        raw = data.draw(st.sampled_from([raw[:start] + piece + raw[stop:], raw[:at] + piece + raw[at:], raw[:at] + piece]))
    assert yields_nothing_else(raw)


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run three centres that may say and hear everything."""

    def widen(register: dict[str, list[dict[str, object]]]) -> None:
        for member in register["members"]:
            member["publish"] = member["subscribe"] = [{"crime_types": ["*"], "regions": ["001"], "nominal": True}]

    network = private_network(tmp_path_factory.mktemp("survives") / "network", broker, "survives", CENTRES)
    nodes = Live(redirect(network, widen), broker)
    await nodes.start(*CENTRES)
    yield nodes
    await nodes.close()


def drawn(kind: str, count: int) -> list[bytes]:
    """Return messages of a kind for the centres that run: drawn as ever, the same ones in each run, addressed to B and C."""
    found: list[bytes] = []

    @settings(max_examples=count, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(documents(kind))
    def draw(document: dict[str, object]) -> None:
        ours = {name: value for name, value in document.items() if name not in JUDGED}
        if kind == "reply":
            ours["references"] = document["references"]
        raw = spell(ours | {"to": [B, C]} if "to" in document else ours)
        messages.parse(raw)
        found.append(raw)

    draw()
    return found


async def test_messages_of_every_kind_are_handed_over_as_submitted(live: Live) -> None:
    """Through outbox, broker and inbox of live nodes: both recipients' systems get the very bytes, each once."""
    raws = [raw for kind in codes.KINDS if kind not in RECALLS for raw in drawn(kind, EACH)]
    outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    assert [(str(one), one.problems) for one in outcomes if isinstance(one, RelayError)] == []
    submitted = {one.id: raw for one, raw in zip(outcomes, raws, strict=True) if isinstance(one, Stored)}
    assert {json.loads(raw)["kind"] for raw in submitted.values()} == set(codes.KINDS) - set(RECALLS)
    for centre in (B, C):
        given_: list[tuple[str, bytes]] = []
        while len(given_) < len(submitted):
            taken = await live.take(centre)
            assert taken, f"{len(submitted) - len(given_)} messages did not arrive at {centre}"
            given_ += [(one.id, one.raw) for one in taken]
        assert sorted(given_) == sorted(submitted.items())
