"""The audit record as operators see it: how large, who countersigned it, whether it was found sound, what speaks against it.

Errors raised: ``StoreTrouble``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pydantic import Field

from relay import verifying, witnessed
from relay.store import Connection, checkpoints, compared, traces, trees
from relay.store import witnessed as seen
from relay.store.witnessed import Evidence
from relay.verifying import Verified
from relay.views.explained import Explained, explained, of_error
from relay.views.peers import CountsDiffer
from relay.views.times import Moment, Shown
from relay.web.served import Here
from relay.web.verifications import Run
from relay.witnessed import Checkpoint, Note

MOST = 100


class Witness(Shown):
    """How far a witness countersigned the record of this epoch."""

    centre: str
    entries: int | None = Field(description="entries under the last checkpoint that it countersigned; null: none")
    at: Moment | None = Field(description="when its word came")
    behind: int = Field(description="entries that it has not countersigned yet")


class Looked(Shown):
    """When the node itself last found its whole record to be what was signed."""

    at: Moment
    epoch: int
    entries: int


class Asked(Shown):
    """A verification that somebody asked for; ``words`` say what was found, in sentences."""

    by: str
    begun_at: Moment
    ended_at: Moment | None = Field(description="null: it is under way")
    entries: int = Field(description="entries verified so far")
    total: int
    sound: bool | None = Field(description="null: not known yet, or it was given up")
    words: list[str]
    trouble: Explained | None = Field(description="why it was given up")


class Split(Shown):
    """Evidence that a peer has two histories: what was held of it, and what came then."""

    peer: str
    at: Moment
    why: Explained
    held: str = Field(description="the checkpoint that was held, as it was signed")
    given: str = Field(description="the one that came then")
    held_entries: int | None
    given_entries: int | None
    source: str = Field(description="from which centre it came")


class Differs(CountsDiffer):
    """Where this centre and a peer count other messages of one time and lane."""

    peer: str
    since: Moment


class Record(Shown):
    """The audit record."""

    epoch: int
    epochs: list[int] = Field(description="those that have a record here, this one included")
    entries: int = Field(description="of this epoch")
    checkpoint_entries: int | None = Field(description="entries under the last checkpoint; null: there is none yet")
    checkpoint_at: Moment | None
    countersigned: int = Field(description="entries that at least one witness countersigned")
    uncountersigned: int
    witnesses: list[Witness]
    damage: Explained | None = Field(description="why the record can't be trusted any more")
    damage_at: Moment | None
    looked: Looked | None = Field(description="null: not yet since the node's start")
    asked: Asked | None = Field(description="the last verification that somebody asked for, since the node's start")
    splits: list[Split]
    differences: list[Differs]


async def record(here: Here) -> Record:
    """Return how the record stands."""
    named = witnessed.witnesses(here.centre.directory, here.centre.id)
    rows = await here.centre.store.read(partial(_read, epoch=here.centre.store.epoch, witnesses=named))
    run, looked = here.verifications.latest, here.node.soundness.looked
    own = Looked(at=looked.at, epoch=looked.epoch, entries=looked.entries) if looked is not None else None
    return rows.model_copy(update={"looked": own, "asked": _asked(run) if run is not None else None})


def _read(connection: Connection, epoch: int, witnesses: Sequence[str]) -> Record:
    size, last = trees.size(connection, epoch), checkpoints.latest(connection, epoch)
    found = [_witness(connection, epoch, witness, size) for witness in witnesses]
    countersigned = max((one.entries or 0 for one in found), default=0)
    damage = checkpoints.damage(connection)
    damage = damage if damage is not None and damage.epoch == epoch else None
    return Record(
        epoch=epoch,
        epochs=traces.epochs(connection),
        entries=size,
        checkpoint_entries=last.size if last else None,
        checkpoint_at=last.time if last else None,
        countersigned=countersigned,
        uncountersigned=max(0, size - countersigned),
        witnesses=found,
        damage=explained("audit-damaged", damage.detail) if damage else None,
        damage_at=damage.at if damage else None,
        looked=None,
        asked=None,
        splits=[_split(one) for one in seen.all_evidence(connection, MOST)],
        differences=[_differs(one) for one in compared.differences(connection, MOST)],
    )


def _witness(connection: Connection, epoch: int, witness: str, size: int) -> Witness:
    last = checkpoints.last_of(connection, epoch, witness)
    entries, at = last if last is not None else (None, None)
    return Witness(centre=witness, entries=entries, at=at, behind=max(0, size - (entries or 0)))


def _asked(run: Run) -> Asked:
    return Asked(
        by=run.by,
        begun_at=run.begun_at,
        ended_at=run.ended_at,
        entries=run.entries,
        total=run.total,
        sound=None if run.found is None else run.found.fault is None,
        words=_words(run.found),
        trouble=of_error(run.trouble) if run.trouble is not None else None,
    )


def _words(found: Verified | None) -> list[str]:
    return [] if found is None else verifying.words(found)


def _split(one: Evidence) -> Split:
    return Split(
        peer=one.origin,
        at=one.at,
        why=explained(one.code),
        held=one.held.statement,
        given=one.given.statement,
        held_entries=_entries(one.held),
        given_entries=_entries(one.given),
        source=one.source,
    )


def _entries(note: Note) -> int | None:
    try:
        return Checkpoint.model_validate_json(note.statement).size
    except ValueError:
        return None


def _differs(one: compared.Difference) -> Differs:
    return Differs(
        peer=one.peer,
        side=one.side,
        lane=one.lane,
        first=one.first,
        until=one.until,
        ours=one.ours,
        theirs=one.theirs,
        times=one.times,
        since=one.since,
    )
