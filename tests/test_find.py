"""Finding messages: identifiers in any spelling, every filter at sender and recipient, nothing in clear at rest."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from relay import codes, messages
from relay.directory import RetentionPolicy
from relay.keeping import Keeper, Kept
from relay.keys import StorageKey
from relay.messages import terms
from relay.messages.part import Part, _made
from relay.messages.subjects import Organisation
from relay.network import Network
from relay.node import Node
from relay.rabbit import PrivateBroker
from relay.settings import load
from relay.store import Store, found, record
from relay.store.found import Entry, Query
from tests.live import EXAMPLES, eventually, private_network, serving

CENTRES = ("WEST", "EAST")
SEIZURE: dict[str, Any] = json.loads((EXAMPLES / "seizure.full.json").read_bytes())
UNKNOWN = "00000000-0000-7000-8000-000000000000"
FULL = sorted(path.name for path in EXAMPLES.glob("*.full*.json"))

HOLDS = {
    *("accounts", "batch", "cas", "case_number", "code_name", "containers", "digest", "gtin", "iban", "imo", "journey"),
    *("laboratory_profile", "mmsi", "notice_number", "number", "permits", "registration", "sanctions_reference", "seals"),
    *("serial", "serials", "tracker", "vin"),
}
"""Fields of the examples by whose values a message is found."""


def seizure(**fields: Any) -> dict[str, Any]:
    """Return the full seizure as WEST sends it to EAST, with fields changed."""
    return {**SEIZURE, "origin": "WEST", "exclude": [], "references": [], "to": ["EAST"], **fields}


def reference(message: str, document: dict[str, Any], relation: str) -> dict[str, str]:
    """Return a reference to a message that was submitted."""
    return {"id": message, "digest": hashlib.sha256(json.dumps(document).encode()).hexdigest(), "relation": relation}


def example(name: str, **fields: Any) -> dict[str, Any]:
    """Return a minimal example with fields changed."""
    return {**json.loads((EXAMPLES / f"{name}.minimal.json").read_bytes()), **fields}


def identifiers(document: Any, name: str = "") -> Iterator[str]:
    """Return the identifiers in a message as it is written, without the software's help."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key != "references":
                yield from identifiers(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from identifiers(value, name)
    elif name in HOLDS:
        yield document


# Spelling

plain = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=1, max_size=20)
noise = st.text(" -./_:#()\u00a0\u2010\u2013\u3000\u200b'\"", max_size=3)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """Return an identifier and the same as somebody else writes it: spaced, hyphened, small, full-width."""
    written = draw(plain)
    ways: list[Callable[[str], str]] = [
        str,
        str.lower,
        lambda character: chr(ord(character) + 0xFEE0),
        lambda character: chr(ord(character.lower()) + 0xFEE0),
    ]
    spelled = "".join(draw(noise) + draw(st.sampled_from(ways))(character) for character in written)
    return written, spelled + draw(noise)


@given(spellings())
def test_an_identifier_is_found_however_it_is_written(pair: tuple[str, str]) -> None:
    """Spaces, hyphens, dots, small and full-width letters change nothing, on either side."""
    written, spelled = pair
    assert terms.identifier(spelled) == terms.identifier(written)
    assert terms.identifier(written) is not None


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text: str) -> None:
    """The one spelling of an identifier is letters and digits in capitals, and its own normal form."""
    once = terms.normal(text)
    assert terms.normal(once) == once
    assert once == "" or once.isalnum()


@pytest.mark.parametrize(
    ("spelled", "written"),
    [
        ("MSCU 123456-7", "MSCU1234567"),
        ("IMO 9700110", "9700110"),
        ("imo-9700110", "9700110"),
        ("MMSI: 352001234", "352001234"),
        ("iban fr20 3009 9000 0112 3456 7890 195", "FR2030099000011234567890195"),
        ("٩٧٠٠١١٠", "9700110"),
        ("IMO 97", "IMO97"),
    ],
)
def test_a_number_is_the_same_with_the_name_of_its_numbering(spelled: str, written: str) -> None:
    """`IMO` before a ship's number does not count, nor the script of its digits; other words stay."""
    assert terms.normal(spelled) == written


@pytest.mark.parametrize("nothing", ["", " ", "-/-", "\u200b", "\ufe4f"])
def test_what_has_no_letter_or_digit_is_no_identifier(nothing: str) -> None:
    """Nothing is indexed under an empty term."""
    assert terms.identifier(nothing) is None


# What is indexed


@pytest.mark.parametrize("name", FULL)
def test_every_identifier_of_a_full_message_is_a_term(name: str) -> None:
    """Whatever field holds it, wherever it stands, inside an update too."""
    raw = (EXAMPLES / name).read_bytes()
    held = set(terms.of_content(messages.parse(raw)))
    for one in identifiers(json.loads(raw)):
        assert terms.identifier(one) in held, one
    for reference in json.loads(raw).get("references", []):
        assert terms.thread(reference["id"]) in held


def test_the_examples_hold_an_identifier_of_every_field_that_can() -> None:
    """The test before would not see a field that no example fills."""
    filled: set[str] = set()

    def look(document: Any) -> None:
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            filled.add(str(key))
            if isinstance(value, (dict, list)):
                look(value)

    for name in FULL:
        look(json.loads((EXAMPLES / name).read_bytes()))
    assert filled >= HOLDS - {"sanctions_reference"}
    firm = Organisation.model_validate({"type": "organisation", "name": "Example", "sanctions_reference": "EX/2026/17"})
    assert terms.of_content(firm) == ["identifier:EX202617"]


IDENTIFYING = {"Container", "Imo", "Mmsi", "Vin", "Iban", "Gtin", "Cas", "Digest"}
WORDS = re.compile(r"\b(numbers?|reference of|reference in|serial|IBANs?)\b")


def named(annotation: Any) -> set[str]:
    """Return the names of the types that stand in an annotation."""
    inner = {name for one in get_args(annotation) for name in named(one)}
    return inner | {getattr(annotation, "__name__", "")}


def looks_identifying(model: type[Part], name: str) -> bool:
    """Return whether a field's type or description says that it identifies something."""
    field = model.model_fields[name]
    return bool(named(field.annotation) & IDENTIFYING or WORDS.search(field.description or ""))


NOT_INDEXED = {"check_digit", "content", "count", "mrz", "packages", "phone", "red_list", "references", "report_number", "units"}
"""Fields that speak of numbers or references and identify no thing, paper or case."""


def test_no_field_that_identifies_something_is_forgotten() -> None:
    """A new field of a message that holds a number or reference must be indexed, or named here."""
    forgotten = {
        (model.__name__, name)
        for model in _made
        if model.__module__.startswith("relay.messages.")
        for name in model.model_fields
        if looks_identifying(model, name) and name not in {known for known, _ in terms._plan(model)} | NOT_INDEXED
    }
    assert forgotten == {("Reference", "digest")}  # of a message, which is found by its id


def test_no_name_of_a_person_is_a_term() -> None:
    """Persons are found by their papers alone."""
    raw = (EXAMPLES / "notice.full.json").read_bytes()
    person = json.loads(raw)["subject"]
    held = set(terms.of_content(messages.parse(raw)))
    for name in (person["family_name"], person["given_names"], *person["aliases"]):
        assert terms.identifier(name) not in held


def test_marks_are_found_by_everything_above_them() -> None:
    """A crime type by its family, a country by each of its regions but the world."""
    held = set(terms.of_marks("WEST", ["seizure"], "actual", ("drugs.cocaine",), ("BE",)))
    assert {"crime_type:drugs", "crime_type:drugs.cocaine", "country:BE", "region:155", "region:150"} <= held
    assert f"region:{codes.WORLD}" not in held


# The index


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Open an empty store."""
    opened = await Store.open(tmp_path / "relay.db", "WEST", "0" * 64, 1_780_000_000_000)
    yield opened
    await opened.close()


def keeper() -> Keeper:
    """Return a keeper with a key of its own."""
    return Keeper(RetentionPolicy(), StorageKey.generate().index_key())


async def search(store: Store, query: Query, limit: int = 1000, **given: int | None) -> list[str]:
    """Return the ids that a query finds."""
    return [hit.id for hit in await store.read(lambda connection: found.search(connection, query, limit=limit, **given))]


async def test_every_full_message_is_found_by_each_of_its_identifiers(store: Store) -> None:
    """All kinds, all fields, through the index itself."""
    kept: dict[str, Kept] = {}
    keep = keeper()
    for name in FULL:
        kept[name] = keep.keep(messages.parse((EXAMPLES / name).read_bytes()), "WEST", 0)
    entries = [
        Entry(found.number(7, serial, received=False), name, one.tokens) for serial, (name, one) in enumerate(kept.items())
    ]
    await store.write(lambda connection: found.add(connection, entries))
    for name in FULL:
        for one in identifiers(json.loads((EXAMPLES / name).read_bytes())):
            term = terms.identifier(one)
            assert term is not None
            assert name in await search(store, Query((keep.tokens([term]),))), (name, one)
    assert await search(store, Query((keep.tokens([terms.identifier("nowhere") or ""]),))) == []


async def test_an_index_answers_as_a_list_would(store: Store) -> None:
    """All of these, none of those, in a range of time, page by page: newest first, without gaps or repeats."""
    entries = [
        Entry(
            found.number(n // 3, n, received=n % 2 == 1),
            f"m{n}",
            f"all {'even' if n % 2 == 0 else 'odd'} {'x' if n % 5 else 'y'}",
        )
        for n in range(200)
    ]
    await store.write(lambda connection: found.add(connection, entries))
    newest = [one.id for one in sorted(entries, key=lambda one: -one.number)]
    assert await search(store, Query()) == newest
    assert await search(store, Query(("even", "y"))) == [id_ for id_ in newest if int(id_[1:]) % 10 == 0]
    assert await search(store, Query(("y",), without=("even",))) == [id_ for id_ in newest if int(id_[1:]) % 10 == 5]
    assert await search(store, Query(without=("even",), either=("x", "y"))) == [id_ for id_ in newest if int(id_[1:]) % 2]
    assert await search(store, Query(("even", "odd"))) == []
    ranged = [id_ for id_ in newest if 10 <= int(id_[1:]) // 3 < 20]
    assert await search(store, Query(("all",)), since=10, until=20) == ranged
    assert await search(store, Query(), since=10, until=20) == ranged
    walked: list[str] = []
    before: int | None = None
    while page := await store.read(lambda connection: found.search(connection, Query(("all",)), before=before, limit=7)):  # noqa: B023
        walked += [hit.id for hit in page]
        assert all(hit.received == bool(int(hit.id[1:]) % 2) for hit in page)
        before = page[-1].number
    assert walked == newest


async def test_a_time_beyond_the_index_is_no_error(store: Store) -> None:
    """A range may begin in 1900 and end in 2999."""
    await store.write(lambda connection: found.add(connection, [Entry(found.number(7, 1, received=False), "m", "t")]))
    assert await search(store, Query(("t",)), since=-(2**41), until=2**45) == ["m"]
    assert await search(store, Query(("t",)), since=2**45) == []


# Two nodes


@pytest.fixture(scope="module")
def offices(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Write a network of two centres, on a virtual host of its own."""
    return private_network(tmp_path_factory.mktemp("find") / "net", broker, "find", CENTRES)


@pytest.fixture(scope="module")
async def nodes(offices: Network) -> AsyncIterator[dict[str, Node]]:
    """Run both nodes with their APIs."""
    async with serving({centre: load(offices.node_file(centre)) for centre in CENTRES}) as running:
        yield running


class Asking:
    """Asks a centre's node over its API."""

    def __init__(self, network: Network, nodes: dict[str, Node]) -> None:
        self._clients = {
            (centre, role): httpx2.AsyncClient(
                base_url=f"http://{nodes[centre].centre.settings.api.listen}",
                headers={"Authorization": f"Bearer {network.token(centre, role)}"},
                timeout=60,
                trust_env=False,
            )
            for centre in CENTRES
            for role in ("system", "operator")
        }

    async def get(self, centre: str, role: str = "operator", **params: Any) -> httpx2.Response:
        """Ask for messages."""
        why = {} if params.keys() <= {"limit", "before", "state"} else {"reason": "case 17"}
        return await self._clients[centre, role].get("/v1/messages", params=why | params)

    async def found(self, centre: str, **params: Any) -> list[dict[str, Any]]:
        """Return what a search finds."""
        answer = await self.get(centre, **params)
        assert answer.status_code == 200, answer.text
        hits: list[dict[str, Any]] = answer.json()["messages"]
        return hits

    async def ids(self, centre: str, **params: Any) -> list[str]:
        """Return the ids that a search finds."""
        return [hit["id"] for hit in await self.found(centre, **params)]

    async def submit(self, document: dict[str, Any]) -> str:
        """Submit a message at WEST; return its id."""
        answer = await self._clients["WEST", "system"].post("/v1/messages", content=json.dumps(document).encode())
        assert answer.status_code == 202, answer.text
        sent: str = answer.json()["id"]
        return sent

    async def send(self, document: dict[str, Any]) -> str:
        """Submit a message at WEST; return its id once EAST has it."""
        sent = await self.submit(document)

        async def arrived() -> bool:
            return sent in await self.ids("EAST", direction="received", limit=20)

        await eventually(arrived)
        return sent

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()


@pytest.fixture(scope="module")
async def asking(offices: Network, nodes: dict[str, Node]) -> AsyncIterator[Asking]:
    """Give a way to ask both nodes."""
    made = Asking(offices, nodes)
    yield made
    await made.close()


@pytest.fixture(scope="module")
async def one(asking: Asking) -> str:
    """Send one full seizure and, beside it, one that has nothing in common with it."""
    marks = {"crime_types": ["environment.timber"], "countries": ["SG"], "status": "exercise", "to": ["EAST"]}
    await asking.send(example("alert", **marks))
    return await asking.send(seizure())


FILTERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"kind": "seizure"}, {"kind": "notice"}),
    ({"crime_type": "drugs"}, {"crime_type": "weapons"}),
    ({"crime_type": "drugs.cocaine"}, {"crime_type": "drugs.synthetic"}),
    ({"region": "155"}, {"region": "014"}),
    ({"region": "150"}, {"region": "002"}),
    ({"country": "PA"}, {"country": "FR"}),
    ({"origin": "WEST"}, {"origin": "EAST"}),
    ({"status": "actual"}, {"status": "test"}),
    ({"identifier": "xqru 220417-6"}, {"identifier": "XQRU2204177"}),
    ({"identifier": "IMO 9700110"}, {"identifier": "9700111"}),
    ({"identifier": ["9700110", "be.2026.004211"]}, {"identifier": ["9700110", "BE-2026-004212"]}),
    ({"since": "2026-01-01T00:00:00Z"}, {"since": "2999-01-01T00:00:00Z"}),
    ({"until": "2999-01-01T00:00:00+01:00"}, {"until": "2026-01-01T00:00:00Z"}),
    ({"kind": "seizure", "region": "001", "status": "actual"}, {"kind": "seizure", "status": "exercise"}),
]


@pytest.mark.parametrize(("fits", "misses"), FILTERS, ids="-".join)
@pytest.mark.parametrize("centre", CENTRES)
async def test_sender_and_recipient_find_a_message_by_each_filter(
    asking: Asking, one: str, centre: str, fits: dict[str, Any], misses: dict[str, Any]
) -> None:
    """What fits finds it on both sides, what does not fit does not."""
    assert one in await asking.ids(centre, **fits)
    assert one not in await asking.ids(centre, **misses)


async def test_a_hit_shows_marks_and_states_and_no_content(asking: Asking, one: str) -> None:
    """Both sides see the same marks; each sees how far the message is with it."""
    sent = next(hit for hit in await asking.found("WEST", identifier="9700110") if hit["id"] == one)
    received = next(hit for hit in await asking.found("EAST", identifier="9700110") if hit["id"] == one)
    marks = (
        "kind",
        "version",
        "crime_types",
        "countries",
        "tlp",
        "handling",
        "classification",
        "precedence",
        "status",
        "nominal",
    )
    for hit in (sent, received):
        assert {name: hit[name] for name in marks} == {name: SEIZURE[name] for name in marks}
        assert hit["regions"] == list(codes.sub_regions(tuple(SEIZURE["countries"])))
        assert hit["origin"] == "WEST"
        assert SEIZURE["case_number"] not in json.dumps(hit)
    assert (sent["direction"], received["direction"]) == ("sent", "received")
    assert sent["recipients"][0]["centre"] == "EAST"
    assert sent["recipients"][0]["state"] in ("queued", "sent", "accepted")
    assert "history" not in sent["recipients"][0]
    assert received["state"] == "waiting"
    minimal = next(hit for hit in await asking.found("EAST", kind="alert"))
    assert (minimal["precedence"], minimal["handling"], minimal["version"]) == ("routine", "H0", "1.0")


async def test_each_side_finds_by_direction(asking: Asking, one: str) -> None:
    """What one sent the other received, and neither the reverse; `any` is both."""
    assert one in await asking.ids("WEST", direction="sent")
    assert one in await asking.ids("WEST", direction="any")
    assert one not in await asking.ids("WEST", direction="received")
    assert one in await asking.ids("EAST", direction="received", kind="seizure")
    assert await asking.ids("EAST", direction="sent") == []


async def test_a_thread_is_the_message_and_all_that_refers_to_it(asking: Asking, one: str) -> None:
    """A later message that refers to it is found beside it; further filters hold for both."""
    later = await asking.send(
        example("alert", countries=["BE"], to=["EAST"], references=[{"id": one, "digest": "00" * 32, "relation": "answers"}])
    )
    for centre in CENTRES:
        assert await asking.ids(centre, thread=one) == [later, one]
        assert await asking.ids(centre, thread=one, limit=1) == [later]
        assert await asking.ids(centre, thread=one, country="PA") == [one]
        assert await asking.ids(centre, thread=later) == [later]
        assert await asking.ids(centre, thread=UNKNOWN) == []
    first = (await asking.get("EAST", thread=one, limit=1)).json()
    rest = (await asking.get("EAST", thread=one, limit=1, before=first["next"])).json()
    assert [hit["id"] for hit in rest["messages"]] == [one]
    assert rest["next"] is None


async def test_pages_join_without_gaps_or_repeats_while_messages_come(asking: Asking, one: str) -> None:
    """Who walks back sees everything once that was there when he began."""
    sent = [await asking.send(seizure(case_number="PAGED-1")) for _ in range(5)]
    walked: list[str] = []
    before: dict[str, Any] = {}
    while True:
        page = (await asking.get("EAST", identifier="paged 1", limit=2, **before)).json()
        walked += [hit["id"] for hit in page["messages"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
        await asking.send(seizure(case_number="PAGED-1"))
    assert walked == sent[::-1]
    assert one not in walked


async def test_an_update_is_found_by_what_it_says_and_by_both_kinds(asking: Asking) -> None:
    """The new version inside an update is looked at like any message; the update is an update and a seizure."""
    first = seizure(case_number="FIRST-1")
    sent = await asking.send(first)
    marks = ("crime_types", "countries", "tlp", "purpose", "nominal", "to", "handling", "classification", "grading", "precedence")
    new = {**first, "case_number": "SECOND-2"}
    outer = {name: new[name] for name in (*marks, "exclude", "retention_until", "origin") if name != "grading"}
    second = await asking.send(example("update", message=new, references=[reference(sent, first, "updates")], **outer))
    for centre in CENTRES:
        assert await asking.ids(centre, identifier="second 2") == [second]
        assert second in await asking.ids(centre, kind="update")
        assert second in await asking.ids(centre, kind="seizure")
        assert second in await asking.ids(centre, thread=sent)


async def test_what_was_purged_is_not_found(asking: Asking) -> None:
    """A recall purges at the recipient; from then on nothing there finds the message."""
    document = seizure(case_number="GONE-77")
    gone = await asking.send(document)
    assert await asking.ids("EAST", identifier="gone 77") == [gone]
    marks = {name: document[name] for name in ("crime_types", "countries", "tlp", "purpose", "nominal", "to", "classification")}
    cancel = await asking.submit(example("cancel", **marks, references=[reference(gone, document, "cancels")]))

    async def purged() -> bool:
        return await asking.ids("EAST", identifier="gone 77") == []

    await eventually(purged)
    assert await asking.ids("EAST", thread=gone) == [cancel]
    assert gone not in await asking.ids("EAST", direction="received", limit=1000)


async def test_the_store_at_rest_holds_nothing_that_is_searched_for(asking: Asking, nodes: dict[str, Node], one: str) -> None:
    """Neither the database nor its log has a term or an identifier in clear, as written or normalised."""
    assert one in await asking.ids("EAST", identifier="9700110", kind="seizure")
    secret = [value for value in identifiers(SEIZURE) if len(terms.normal(value)) > 5]
    assert len(secret) > 5
    words = {spelled for value in secret for spelled in (value, terms.normal(value))}
    words |= {"identifier:", "kind:seizure", "country:BE", "crime_type:", "drugs.cocaine", "thread:"}
    for centre in CENTRES:
        file = nodes[centre].centre.settings.store.file
        raw = b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
        assert len(raw) > 50_000
        assert {word for word in words if word.encode() in raw} == set()


async def test_what_is_damaged_at_rest_is_shown_as_such(asking: Asking, nodes: dict[str, Node]) -> None:
    """It is found, says why it can't be read, and hides no other hit."""
    sound = await asking.send(seizure(case_number="BROKEN-1"))
    broken = await asking.send(seizure(case_number="BROKEN-1"))
    spoil = text(
        "UPDATE outbox_sealed SET body = zeroblob(length(body)) WHERE n = (SELECT envelope FROM outbox_message WHERE id = :id)"
    )
    await nodes["WEST"].centre.store.write(lambda connection: connection.execute(spoil, {"id": broken}))
    first, second = await asking.found("WEST", identifier="broken 1")
    assert (first["id"], first["damaged"], first["direction"]) == (broken, "not-an-envelope", "sent")
    assert "kind" not in first
    assert (second["id"], second["kind"]) == (sound, "seizure")


async def test_the_command_prints_a_line_a_message(asking: Asking, offices: Network, one: str) -> None:
    """Id, direction, time, origin, kind, crime types, a handling code above H0, states; or the answer as JSON."""
    assert one in await asking.ids("EAST", identifier="9700110")
    config = ["--config", str(offices.node_file("EAST"))]
    line = next(found for found in (await command("--identifier", "imo 9700110", *config))[1].splitlines() if one in found)
    assert re.fullmatch(rf"{one}  received  [0-9T:.-]+Z  WEST  seizure  drugs.cocaine  H1  waiting", line)
    status, out, err = await command("--kind", "seizure", "--status", "actual", "--limit", "1", *config)
    assert status == 0
    before = re.fullmatch(r"There are more: the same with --before ([0-9a-f]+)\n", err)
    assert before
    given = ("--kind", "seizure", "--status", "actual", "--limit", "1", "--before", before.group(1), "--json")
    second = json.loads((await command(*given, *config))[1])["messages"]
    assert [hit["id"] for hit in second] != [out.split()[0]]
    status, out, err = await command("--country", "Belgium", *config)
    assert (status, out) == (65, "")
    assert "[unknown-code]" in err


async def command(*words: str) -> tuple[int, str, str]:
    """Run ``relay message find``; return its exit status and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "message", "find", "--reason", "case 17", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_search_goes_on_record_with_the_names_of_its_filters_alone(asking: Asking, nodes: dict[str, Node]) -> None:
    """Who searched, and by what: not for what. Listing without a filter is no search."""

    async def searched() -> list[dict[str, Any]]:
        centre = nodes["EAST"].centre
        rows = await centre.store.read(lambda connection: record.leaves(connection, centre.store.epoch, 0, 100_000))
        return [leaf for leaf in map(json.loads, rows) if leaf["step"] == "searched"]

    before = len(await searched())
    await asking.found("EAST", identifier="9700110", kind="seizure", limit=3)
    leaf = (await searched())[-1]
    assert (leaf["actor"], leaf["why"]) == ("operator", "identifier kind; case 17")
    assert "9700110" not in json.dumps(leaf)
    await asking.get("EAST", limit=3)
    assert len(await searched()) == before + 1


# Refusals


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"kind": "seizures"}, "unknown-code"),
        ({"kind": ""}, "unknown-code"),
        ({"crime_type": "drug"}, "unknown-code"),
        ({"crime_type": "*"}, "unknown-code"),
        ({"region": "15"}, "unknown-code"),
        ({"country": "be"}, "unknown-code"),
        ({"country": "XX"}, "unknown-code"),
        ({"status": "real"}, "unknown-code"),
        ({"origin": "west"}, "bad-request"),
        ({"thread": "1234"}, "bad-request"),
        ({"identifier": "--"}, "bad-request"),
        ({"identifier": ""}, "bad-request"),
        ({"identifier": "9" * 201}, "bad-request"),
        ({"identifier": ["9700110"] * 17}, "bad-request"),
        ({"since": "yesterday"}, "bad-request"),
        ({"since": "2026-01-01T00:00:00"}, "bad-request"),
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}, "bad-request"),
        ({"direction": "out"}, "bad-request"),
        ({"kind": "seizure", "limit": 1001}, "bad-request"),
        ({"kind": "seizure", "before": UNKNOWN}, "bad-request"),
        ({"before": "17"}, "bad-request"),
        ({"kind": ["seizure", "alert"]}, "bad-request"),
        ({"crimetype": "drugs"}, "bad-request"),
    ],
    ids=str,
)
async def test_what_can_t_be_searched_for_is_refused(asking: Asking, params: dict[str, Any], code: str) -> None:
    """An unknown code or a malformed value is a problem that names its parameter, never an empty list."""
    answer = await asking.get("EAST", **params)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == code
    names = {"until"} if "until" in params else {"limit", "before"} & params.keys() or params.keys()
    assert any(f"`{name}`" in answer.json()["detail"] for name in names)


async def test_everything_that_is_wrong_is_said_at_once(asking: Asking) -> None:
    """Two unknown codes are two problems."""
    answer = await asking.get("EAST", country="XX", status="real")
    assert [problem["code"] for problem in answer.json()["errors"]] == ["unknown-code", "unknown-code"]


async def test_only_an_operator_searches(asking: Asking) -> None:
    """The token of the centre's system does not open what others sent."""
    answer = await asking.get("EAST", "system", kind="seizure")
    assert answer.status_code == 403
