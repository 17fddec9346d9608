"""The handling marks as rules, end to end: for each row of the table one message that is refused and one that passes.

Each refused message is tried twice: submitted, where nothing may be stored or sent, and sealed by a member that bends its own
node, where the receiver must refuse it by itself and say so under its signature.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from relay import messages, topology
from relay.clock import iso, now_ms
from relay.errors import Refused
from relay.keeping import DAY_MS
from relay.rabbit import PrivateBroker
from relay.submissions import Submission
from tests.live import EXAMPLES, Live, eventually, message, private_network, redirect

CENTRES = ("HBRU", "HLYO", "HSIN", "BE-HCUS")
EVERYWHERE = ["BE", "SG", "EC"]
LATE = "2099-01-01T00:00:00Z"


@dataclass(frozen=True)
class Row:
    """A mark: what is refused and under which code, what passes and to whom; ``judged`` when the receiver decides it, too."""

    mark: str
    refused: dict[str, Any]
    code: str
    passes: dict[str, Any]
    reaches: set[str]
    judged: bool = True
    origin: str = "HLYO"


ROWS = [
    Row("TLP RED", {"tlp": "RED", "to": None}, "contradiction", {"tlp": "RED", "to": ["HBRU"]}, {"HBRU"}),
    Row("TLP missing", {"tlp": None}, "missing-field", {"tlp": "GREEN"}, {"HBRU", "HSIN", "BE-HCUS"}),
    Row(
        "H3 without its text",
        {"handling": "H3"},
        "contradiction",
        {"handling": "H3", "handling_text": "Ask before use."},
        {"HBRU", "HSIN", "BE-HCUS"},
    ),
    Row("H1", {"handling": "H7"}, "not-in-list", {"handling": "H1"}, {"HBRU", "HSIN", "BE-HCUS"}),
    Row("grading", {"grading": None}, "missing-field", {"grading": "B2"}, {"HBRU", "HSIN", "BE-HCUS"}),
    Row("grading contradicted", {"grading": "Z9"}, "not-in-list", {"grading": "X4"}, {"HBRU", "HSIN", "BE-HCUS"}),
    Row(
        "classification",
        {"classification": "confidential", "to": ["HSIN"]},
        "recipient-not-entitled",
        {"classification": "confidential"},
        {"HBRU"},
    ),
    Row("nominal", {"nominal": True, "to": ["HBRU"]}, "recipient-not-entitled", {"nominal": True}, {"HSIN"}),
    Row("nominal missing", {"nominal": None}, "missing-field", {"nominal": False}, {"HBRU", "HSIN", "BE-HCUS"}),
    Row("exclusion", {"exclude": ["HBRU"], "to": ["HBRU"]}, "contradiction", {"exclude": ["HBRU"]}, {"HSIN", "BE-HCUS"}),
    Row(
        "exclusion of a country",
        {"exclude": ["BE"], "to": ["BE-HCUS"]},
        "recipient-not-entitled",
        {"exclude": ["BE"]},
        {"HBRU", "HSIN"},
    ),
    Row("purpose", {"purpose": "curiosity"}, "not-in-list", {"purpose": "warning"}, {"HBRU", "HSIN", "BE-HCUS"}),
    Row("purpose missing", {"purpose": None}, "missing-field", {"purpose": "arrest"}, {"HBRU", "HSIN", "BE-HCUS"}),
    Row(
        "retention",
        {"retention_until": LATE},
        "bad-retention",
        {"retention_until": iso(now_ms() + 200 * DAY_MS)},
        {"HBRU", "HSIN", "BE-HCUS"},
        judged=False,
    ),
    Row("ownership", {"origin": "HSIN"}, "other-origin", {"origin": "HLYO"}, {"HBRU", "HSIN", "BE-HCUS"}),
    Row("exercise", {"status": "drill"}, "not-in-list", {"status": "exercise"}, {"HBRU", "HSIN", "BE-HCUS"}),
]


def entitled(register: dict[str, Any]) -> None:
    """Let HBRU hear no personal data, HSIN nothing classified, BE-HCUS only of Europe and no personal data."""
    members = {member["id"]: member for member in register["members"]}
    members["HBRU"] |= {"clearance": "confidential", "subscribe": [{"crime_types": ["*"], "regions": ["001"]}]}
    members["HSIN"] |= {"clearance": "unclassified"}
    members["BE-HCUS"] |= {"country": "BE", "subscribe": [{"crime_types": ["drugs"], "regions": ["150"]}]}


@pytest.fixture(scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory, broker: PrivateBroker) -> AsyncIterator[Live]:
    """Run four nodes on a virtual host of their own."""
    live = Live(redirect(private_network(tmp_path_factory.mktemp("handling"), broker, "handling", CENTRES), entitled), broker)
    await live.start(*CENTRES)
    yield live
    await live.close()


def written(fields: dict[str, Any]) -> bytes:
    """Return a seizure that concerns everybody, with marks changed."""
    return message(**{"countries": EVERYWHERE, **fields})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.mark)
async def test_a_mark_refuses_and_lets_pass(net: Live, row: Row) -> None:
    """What the mark forbids is refused before anything is stored or sent; what it allows reaches exactly whom it allows."""
    before = await stored(net, row.origin)
    assert row.code in await refusal(net, row.origin, written(row.refused))
    assert await stored(net, row.origin) == before
    sent = await net.submit(row.origin, written(row.passes))
    assert set(sent.recipients) == row.reaches
    for centre in row.reaches:
        await eventually(partial(took, net, centre, sent.id))
        await net.reaches(row.origin, sent.id, centre, "delivered")


@pytest.mark.parametrize("row", [row for row in ROWS if row.judged], ids=lambda row: row.mark)
async def test_a_receiver_decides_by_itself(net: Live, row: Row) -> None:
    """A message that its sender's node should have refused is refused by the receiver, signed, and never given out."""
    to = (row.refused.get("to") or ["HBRU"])[0]
    raw = written(row.refused)
    status = row.refused.get("status", "actual")
    lane = topology.lane(status, "routine") if status in ("actual", "exercise", "test") else "exercise"
    sealed = net.seal(row.origin, [to], [raw], lane=lane)
    await net.inject(row.origin, to, sealed.raw, lane=lane)
    identity = sealed.envelope.core.messages[0].id
    await eventually(lambda: quarantined(net, to, identity))
    assert identity not in [one.id for one in await take(net, to, wait=0)]


async def test_exercise_and_actual_never_mix(net: Live) -> None:
    """Exercise traffic travels in a lane of its own, and neither recalls nor updates what is actual."""
    sent = await net.submit("HLYO", written({"status": "exercise", "precedence": "flash", "to": ["HBRU"]}))
    assert await lane(net, "HLYO", sent.id) == "exercise"
    assert (await net.submit("HLYO", written({"precedence": "flash", "to": ["HBRU"]}))).recipients == ("HBRU",)
    await take(net, "HBRU")


@pytest.mark.parametrize("kind", [kind for kind in messages.MODELS if kind not in ("update", "cancel")])
@pytest.mark.parametrize("missing", ["tlp", "purpose", "nominal", "crime_types", "countries"])
def test_no_kind_goes_without_its_marks(kind: str, missing: str) -> None:
    """Every kind that says something is refused when a mark is missing."""
    body = json.loads((EXAMPLES / f"{kind}.minimal.json").read_bytes())
    del body[missing]
    with pytest.raises(Refused) as refused:
        messages.parse(json.dumps(body).encode())
    assert ("missing-field", f"/{missing}") in [(one.code, one.pointer) for one in refused.value.problems]


async def refusal(live: Live, origin: str, raw: bytes) -> set[str]:
    """Return the codes with which a message is refused at submit."""
    try:
        outcome = (await live[origin].outbox.submit([Submission(raw, messages.parse(raw))]))[0]
    except Refused as error:
        outcome = error
    assert isinstance(outcome, Refused), outcome
    return {outcome.code, *(one.code for one in outcome.problems)}


async def took(live: Live, centre: str, identity: str) -> bool:
    """Take what waits at a centre; return whether a message is among it."""
    return identity in [one.id for one in await take(live, centre, wait=1)]


async def take(live: Live, centre: str, wait: float = 10) -> list[Any]:
    """Take what waits at a centre, confirming restrictions."""
    given = await live[centre].handover.take(1000, wait)
    ids = [one.id for one in given]
    await live[centre].handover.acknowledge(ids, ids)
    return given


async def stored(live: Live, centre: str) -> int:
    """Return how many messages a centre has submitted."""
    query = "SELECT count(*) FROM outbox_message"
    return int(await live[centre].centre.store.read(lambda c: c.exec_driver_sql(query).scalar_one()))


async def lane(live: Live, centre: str, identity: str) -> str:
    """Return the lane in which a message travels."""
    query = "SELECT e.lane FROM outbox_envelope e JOIN outbox_message m ON m.envelope = e.n WHERE m.id = ?"
    return str(await live[centre].centre.store.read(lambda c: c.exec_driver_sql(query, (identity,)).scalar_one()))


async def quarantined(live: Live, centre: str, identity: str) -> bool:
    """Return whether a centre refused a message on arrival and keeps it for an operator."""
    query = "SELECT state FROM inbox_message WHERE id = ?"
    return await live[centre].centre.store.read(lambda c: c.exec_driver_sql(query, (identity,)).scalar()) == "quarantined"
