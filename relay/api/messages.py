"""The routes by which a centre's own system submits messages, and sees what became of them.

A body is validated once, straight from its bytes: a large message in a worker thread, a small one and a batch's lines on the
event loop, the lines in runs of some milliseconds at most. (A thread would hold the interpreter as long and cost half as much
again.) All good lines of a batch go to the outbox at once, which answers after the commit; a bad line harms no other.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from relay import messages
from relay.api.auth import SUBMIT, needs
from relay.api.contract import LINE, Accepted, MessageState, taking_message
from relay.clock import iso
from relay.errors import NotFound, Refused, RelayError
from relay.settings import LimitSettings
from relay.store import Connection, outgoing, parked, threads
from relay.store.history import Step
from relay.store.outgoing import Sent
from relay.store.parked import Waiting
from relay.store.threads import Thread
from relay.submissions import Outcome, Stored, Submission
from relay.web import problems
from relay.web.body import idempotency_key, read_body
from relay.web.callers import caller
from relay.web.served import Here, here

LARGE_BYTES = 64 * 1024
LISTED_PROBLEMS = 10_000  # of one batch's answer; a line after that lists its first alone

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RANK = {"queued": 0, "sent": 1, "deferred": 2, "held": 2, "dead": 2, "accepted": 3}
_TERMINAL = 4
_NDJSON = "application/x-ndjson"
_ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"description": "One line for each line, in order.", "content": {_NDJSON: {"schema": LINE}}}
}

router = APIRouter(tags=["messages"])

Line = tuple[int, bytes]
Judged = Submission | Refused


@router.post(
    "/v1/messages",
    status_code=202,
    dependencies=[SUBMIT],
    responses={202: {"model": Accepted}},
    openapi_extra=taking_message("application/json", "One message, UTF-8."),
    summary="Submit a message",
)
async def submit(request: Request) -> Response:
    """Take a message; the answer comes when it is committed, and promises that it will be sent to these recipients.

    Role `submit`.
    """
    here_ = here(request)
    limits = here_.centre.settings.limits
    key = idempotency_key(request)
    raw = await read_body(request, limits.message_bytes)
    _refuse_when_full(here_)
    _count(request, 1)
    parse = partial(messages.parse, raw, limit=limits.message_bytes, limits=limits.attachments)
    message = await here_.centre.work(parse) if len(raw) > LARGE_BYTES else parse()
    outcomes = await here_.node.outbox.submit([Submission(raw, message, _joined(request, key))])
    outcome = outcomes[0]
    if isinstance(outcome, RelayError):
        raise outcome
    status = f"/v1/messages/{outcome.id}"
    body = {"id": outcome.id, "recipients": outcome.recipients, "status": status, **_besides(outcome)}
    return _json(body, 202, {"Location": status})


@router.post(
    "/v1/messages/batch",
    dependencies=[SUBMIT],
    responses=_ANSWERED,
    openapi_extra=taking_message(_NDJSON, "One message a line; empty lines are ignored."),
    summary="Submit many messages",
)
async def submit_batch(request: Request) -> Response:
    """Take a message a line; the answer comes when all good lines are committed, and says of each line what became of it.

    Role `submit`. With `Idempotency-Key: K`, line n has the key `K/n`.
    """
    here_ = here(request)
    key = idempotency_key(request)
    raw = await read_body(request, here_.centre.settings.limits.batch_bytes)
    lines = _lines(raw, here_.centre.settings.limits.batch_lines)
    _refuse_when_full(here_)
    _count(request, len(lines))
    judged = await _judge(here_, lines, _joined(request, key))
    outcomes = iter(await here_.node.outbox.submit([one for one in judged if isinstance(one, Submission)]))
    results: list[Outcome] = [next(outcomes) if isinstance(one, Submission) else one for one in judged]
    await problems.record(here_, caller(request), [one for one in results if isinstance(one, RelayError)])
    written = map(_written, (n for n, _ in lines), results)
    return Response("".join(written), media_type=_NDJSON)


@router.get(
    "/v1/messages/{message_id}",
    dependencies=[needs("submit", "operate", "audit", "watch")],
    responses={200: {"model": MessageState}},
    summary="See a message's state",
)
async def show(request: Request, message_id: str) -> Response:
    """Say where a submitted message stands with each recipient, with its history.

    Role `submit`, `operate`, `audit` or `watch`.
    """
    here_, found = here(request), None
    if _ID.fullmatch(message_id):
        found = await here_.centre.store.read(partial(_find, here_=here_, message=message_id))
    if found is None:
        raise NotFound("unknown-message", "This node submitted no message with this id.")
    return _json(found)


async def listed(here_: Here, limit: int, before: str | None, state: Waiting | None = None) -> Response:
    """Return what this centre submitted, or what of it is in a state at some recipient; the newest first, below ``before``."""

    def read(connection: Connection) -> list[Sent]:
        if state is None:
            return outgoing.messages(connection, before, limit + 1)
        return parked.waiting(connection, state, before, limit + 1)

    found = await here_.centre.store.read(read)
    page = found[:limit]
    shown = [_state(here_, sent) for sent in page]
    return _json({"messages": shown, "next": page[-1].id if len(found) > limit else None})


def _refuse_when_full(here_: Here) -> None:
    if (trouble := here_.node.full()) is not None:
        raise trouble


def _joined(request: Request, key: str | None) -> str | None:
    """Return an idempotency key that is its client's alone."""
    client = caller(request)
    return None if key is None or client is None else f"{client.name}/{key}"


def _count(request: Request, messages: int) -> None:
    """Count messages against what a client may submit."""
    if (client := caller(request)) is not None:
        here(request).limits.messages(client, messages, time.monotonic())


def _lines(raw: bytes, most: int) -> list[Line]:
    """Return the lines that are not blank, each with its number in the body."""
    if raw.count(b"\n") > most:
        raise Refused("too-many-lines", f"the batch has more than the {most} lines this node takes")
    lines = [(n, line.removesuffix(b"\r")) for n, line in enumerate(raw.split(b"\n"), start=1) if line and not line.isspace()]
    if not lines:
        raise Refused("empty", "the batch has no line")
    return lines


async def _judge(here_: Here, lines: Sequence[Line], key: str | None) -> list[Judged]:
    """Validate lines, some at a time, letting others have their turn in between."""
    limits = here_.centre.settings.limits
    judged: list[Judged] = []
    listed = 0
    for some in _slices(lines):
        validate = partial(_validate, some, limits, key, LISTED_PROBLEMS - listed)
        fresh, count = await here_.centre.work(validate) if len(some[0][1]) > LARGE_BYTES else validate()
        judged += fresh
        listed += count
        await asyncio.sleep(0)
    return judged


def _slices(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Cut lines into runs that take about a millisecond; a large line is a run of its own."""
    run: list[Line] = []
    size = 0
    for line in lines:
        size += len(line[1])
        if run and size > LARGE_BYTES:
            yield run
            run, size = [], len(line[1])
        run.append(line)
    if run:
        yield run


def _validate(lines: Sequence[Line], limits: LimitSettings, key: str | None, room: int) -> tuple[list[Judged], int]:
    """Return what becomes of lines, and how many problems they list, so that an answer's size is bounded."""
    attachments = limits.attachments
    judged: list[Judged] = []
    listed = 0
    for n, line in lines:
        try:
            message = messages.parse(line, limit=limits.message_bytes, limits=attachments)
        except Refused as refusal:
            shortened = Refused(refusal.code, refusal.detail, refusal.problems[: max(room - listed, 1)])
            listed += len(shortened.problems)
            judged.append(shortened)
        else:
            judged.append(Submission(line, message, None if key is None else f"{key}/{n}"))
    return judged, listed


def _written(n: int, outcome: Outcome) -> str:
    if isinstance(outcome, Stored):
        if besides := _besides(outcome):
            return json.dumps({"line": n, "id": outcome.id, "recipients": outcome.recipients, **besides}) + "\n"
        recipients = '","'.join(outcome.recipients)  # ids of the directory: letters, digits and hyphens
        return f'{{"line":{n},"id":"{outcome.id}","recipients":["{recipients}"]}}\n'
    return json.dumps({"line": n, "problem": problems.document(outcome)}) + "\n"


def _besides(stored: Stored) -> dict[str, Any]:
    """Return what else there is to say of a message that was taken; mostly nothing."""
    besides = {
        "withheld": [asdict(one) for one in stored.withheld],
        "withdrawn_from": stored.withdrawn_from,
        "unreachable": stored.unreachable,
        "warnings": [asdict(one) for one in stored.warnings],
    }
    return {name: value for name, value in besides.items() if value}


def _find(connection: Connection, here_: Here, message: str) -> dict[str, Any] | None:
    """Return a submitted message's state and how far its thread is taken back."""
    sent, me = outgoing.message(connection, message), here_.centre.id
    if sent is None:
        return None
    thread = threads.thread(connection, me, threads.first_version(connection, me, message))
    return {**_state(here_, sent), **(_thread(connection, thread) if thread else {})}


def _thread(connection: Connection, thread: Thread) -> dict[str, Any]:
    recalls = (*thread.versions[1:], *thread.cancels, *thread.withdrawals)
    if not recalls:
        return {}
    centres = [
        {"centre": one.centre, "by": one.by, "purged_at": None if one.purged_at is None else iso(one.purged_at)}
        for one in threads.recall_of(thread, threads.purged_by(connection, recalls))
    ]
    confirmed = sum(one["purged_at"] is not None for one in centres)
    said: dict[str, Any] = {"recall": {"confirmed": confirmed, "of": len(centres), "centres": centres}}
    if thread.versions[1:]:
        said["versions"] = thread.versions
    if thread.cancels:
        said["cancelled_by"] = thread.cancels[0]
    return said


def _state(here_: Here, sent: Sent) -> dict[str, Any]:
    return {
        "id": sent.id,
        "submitted_at": iso(sent.submitted_at),
        "lane": sent.lane,
        **({} if sent.purged_at is None else {"purged_at": iso(sent.purged_at)}),
        "recipients": [_at(here_, sent.lane, centre, steps) for centre, steps in sent.recipients.items()],
    }


def _at(here_: Here, lane: str, centre: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Return where a message stands with a recipient; of one that is deferred, also when it is tried again."""
    shown = _recipient(centre, steps)
    if shown["state"] == "deferred" and (due := here_.node.pump.next_attempt(centre, lane)) is not None:
        shown["next_attempt"] = iso(due)
    return shown


def standing(centre: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Return where a message stands with a recipient: its last state."""
    return {name: value for name, value in _recipient(centre, steps).items() if name not in ("history", "notes")}


def _recipient(centre: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Return where a message stands; a receipt may overtake the note that the envelope was sent, so states are put in order."""
    way = [step for step in steps if step.state != "purged" and not step.note]  # recall is a track of its own
    history = list(map(_step, sorted(way, key=lambda step: (_RANK.get(step.state, _TERMINAL), step.at))))
    notes = [_step(step) for step in steps if step.note]
    return {"centre": centre, **history[-1], "history": history, **({"notes": notes} if notes else {})}


def _step(step: Step) -> dict[str, Any]:
    shown = {"state": step.state, "at": iso(step.at)}
    return shown if step.code is None else {**shown, "code": step.code}


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body, separators=(",", ":")), status, headers, "application/json")
