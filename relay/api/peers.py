"""The routes about peers: which live, what each goes by and holds, and where a recovery stands."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay.api.auth import WATCH
from relay.api.contract import Time
from relay.clock import iso
from relay.errors import NotFound
from relay.recovery import View
from relay.store import Connection, epochs, witnessed
from relay.views import peers
from relay.views.peers import PeerState
from relay.web.served import here
from relay.witnessed import Note

router = APIRouter(tags=["peers"], dependencies=[WATCH])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignedNote(_Body):
    """What was signed, as its exact text; the key's id; the signature in hex."""

    statement: str
    key: str
    signature: str


class Caught(_Body):
    """Evidence that a peer has two histories: two of its checkpoints that can't both be true, or one that it does not prove."""

    code: str = Field(description="`audit-split-view`, `audit-shrunk` or `audit-unproved`; `relay explain CODE` says more")
    at: Time
    held: SignedNote = Field(description="what this centre held")
    given: SignedNote = Field(description="what came then")
    source: str = Field(description="from which centre that came")
    proof: list[str] | None = Field(description="the consistency proof that was given, in hex, and does not hold")


class PeerDetail(_Body):
    """What is held of a peer's audit log, and the evidence against it, if any."""

    centre: str
    epoch: int | None = Field(description="null: this centre is no witness of it, or was given no checkpoint yet")
    size: int | None = Field(description="entries under its last checkpoint that this centre countersigned")
    at: Time | None
    checkpoint: SignedNote | None
    evidence: list[Caught]


class Peers(_Body):
    """The other active centres of the network."""

    peers: list[PeerState]


class WentBack(_Body):
    """What showed that the store is an older copy: a peer holds `theirs`, and the store knows `ours`."""

    peer: str
    epoch: int
    lane: str
    theirs: int
    ours: int
    at: Time


class NotKnown(_Body):
    """Messages that a peer holds and that this store does not know to have sent."""

    peer: str
    epoch: int
    lane: str
    first: int
    last: int
    count: int


class Recovery(_Body):
    """Where a recovery stands."""

    needed: WentBack | None = Field(description="null: nothing shows that the store is an older copy")
    epoch: int
    before: int | None = Field(
        description="the epoch before the last recovery; null when there was none, or nothing known before"
    )
    begun_at: Time | None
    unknown: list[NotKnown] = Field(description="what peers hold of earlier epochs beyond this store")


@router.get("/v1/peers", responses={200: {"model": Peers}}, summary="Which peers live")
async def list_(request: Request) -> Response:
    """Say of each peer when it was heard, what it goes by, and whom to call. Role `operate` or `watch`."""
    here_ = here(request)
    found = await here_.centre.store.read(peers.rows)
    body = Peers(peers=[peers.peer(here_.node, member, found) for member in peers.others(here_.node)])
    return Response(body.model_dump_json(), media_type="application/json")


@router.get("/v1/recovery", responses={200: {"model": Recovery}}, summary="Where a recovery stands")
async def recovery(request: Request) -> Response:
    """Say whether the store is an older copy, and what peers hold that it does not know. Role `operate` or `watch`."""
    here_ = here(request)
    body = _recovery(await here_.node.recovery.view(), here_.centre.store.epoch)
    return Response(body.model_dump_json(), media_type="application/json")


@router.get("/v1/peers/{centre}", responses={200: {"model": PeerDetail}}, summary="What is held of a peer's audit log")
async def detail(centre: str, request: Request) -> Response:
    """Say how far this centre countersigned a peer's log, and what shows that it has two histories. Role `operate` or `watch`."""
    here_ = here(request)
    if here_.centre.directory.member(centre) is None:
        raise NotFound("unknown-peer", f"{centre} is no active member of the network.")
    body = await here_.centre.store.read(lambda connection: _detail(connection, centre))
    return Response(body.model_dump_json(), media_type="application/json")


def _detail(connection: Connection, centre: str) -> PeerDetail:
    held = witnessed.latest(connection, centre)
    return PeerDetail(
        centre=centre,
        epoch=held.said.epoch if held else None,
        size=held.said.size if held else None,
        at=iso(held.at) if held else None,
        checkpoint=_note(held.note) if held else None,
        evidence=[
            Caught(
                code=one.code,
                at=iso(one.at),
                held=_note(one.held),
                given=_note(one.given),
                source=one.source,
                proof=list(one.proof.hashes) if one.proof else None,
            )
            for one in witnessed.evidence(connection, centre)
        ],
    )


def _note(note: Note) -> SignedNote:
    return SignedNote(statement=note.statement, key=note.key, signature=note.signature)


def _recovery(view: View, epoch: int) -> Recovery:
    return Recovery(
        needed=_went_back(view.behind) if view.behind else None,
        epoch=epoch,
        before=(view.turn.before or None) if view.turn else None,
        begun_at=iso(view.turn.at) if view.turn and view.turn.at else None,
        unknown=[_not_known(one) for one in view.turn.unknown] if view.turn else [],
    )


def _went_back(found: epochs.Behind) -> WentBack:
    return WentBack(peer=found.peer, epoch=found.epoch, lane=found.lane, theirs=found.theirs, ours=found.ours, at=iso(found.at))


def _not_known(one: epochs.Unknown) -> NotKnown:
    return NotKnown(peer=one.peer, epoch=one.epoch, lane=one.lane, first=one.first, last=one.last, count=one.count)
