"""What a proof proves, in sentences, and what it does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relay.clock import iso
from relay.proofs.check import Logged, Stated, Verdict, Watched

_STATES = {
    "accepted": "verified and stored it",
    "delivered": "gave it to its own system, which took it",
    "rejected": "refused it for good",
    "purged": "deleted everything that it takes back",
}
_STEPS = {
    "submitted": "it was submitted",
    "sent": "the broker confirmed it",
    "accepted": "a receipt `accepted` came",
    "delivered": "a receipt `delivered` came",
    "rejected": "a receipt `rejected` came",
    "purged": "a receipt `purged` came, or it was purged",
    "taken": "it was verified and stored",
    "refused-on-arrival": "it was refused on arrival",
    "taken-by-system": "the centre's own system took it",
}


def proved(verdict: Verdict) -> list[str]:
    """Return what is proved, the most basic first."""
    said = [
        f"The authorities signed directory version {_list(map(str, verdict.directories))} of network {verdict.network}.",
        f"{verdict.origin} sealed message {verdict.message} for {_list(verdict.recipients)} and signed that, at "
        f"{iso(verdict.sealed_at)} by its clock (key {verdict.key}, envelope {verdict.envelope}).",
    ]
    if verdict.content is not None:
        said.append(f"The revealed content, {len(verdict.content)} bytes, is what {verdict.origin} sealed.")
    said += [_stated(one) for one in sorted(verdict.stated, key=lambda one: (one.recipient, one.at))]
    said += [_logged(one, verdict.centre) for one in verdict.logged]
    said += [_watched(one, verdict.centre) for one in verdict.checkpoints]
    return said


def unproved(verdict: Verdict) -> list[str]:
    """Return what a reader might think is proved and is not."""
    said = []
    if verdict.content is None:
        said.append(f"What the message says: the proof has only its commitment, {verdict.commitment}.")
    silent = [one for one in verdict.recipients if one not in {stated.recipient for stated in verdict.stated}]
    if silent and verdict.centre == verdict.origin:
        said.append(f"That it reached {_list(silent)}: no receipt of {'it' if len(silent) == 1 else 'them'} is in the proof.")
    elif silent:
        said.append(f"What {_list(silent)} signed about it: the origin holds the receipts.")
    if not verdict.logged:
        said.append(f"That {verdict.centre}'s log has it: no entry of it is under a checkpoint yet.")
    elif not any(one.witnesses for one in verdict.checkpoints):
        said.append("That anybody else saw the log: no witness has countersigned the checkpoint yet.")
    said.append("That any clock was right: each time is what its signer's clock said. A witness's time bounds what it saw.")
    return [*said, *verdict.cautions]


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for programs."""
    return {
        "network": verdict.network,
        "message": verdict.message,
        "origin": verdict.origin,
        "envelope": verdict.envelope,
        "commitment": verdict.commitment,
        "sealed_at": iso(verdict.sealed_at),
        "recipients": [{"centre": one, "states": _states(verdict, one)} for one in verdict.recipients],
        "log": {
            "centre": verdict.centre,
            "entries": [
                {"epoch": one.epoch, "position": one.position, "step": one.step, "at": iso(one.time), "peer": one.peer}
                for one in verdict.logged
            ],
            "checkpoints": [
                {
                    "epoch": one.epoch,
                    "size": one.size,
                    "root": one.root,
                    "at": iso(one.time),
                    "witnesses": [{"centre": witness, "at": iso(at)} for witness, at in one.witnesses],
                }
                for one in verdict.checkpoints
            ],
        },
        "directory_versions": list(verdict.directories),
        "revealed": verdict.content is not None,
        "proved": proved(verdict),
        "not_proved": unproved(verdict),
    }


def _states(verdict: Verdict, centre: str) -> list[dict[str, Any]]:
    mine = sorted((one for one in verdict.stated if one.recipient == centre), key=lambda one: one.at)
    return [{"state": one.state, "at": iso(one.at), "code": one.code, "receipt": one.receipt, "key": one.key} for one in mine]


def _stated(one: Stated) -> str:
    why = f" ({one.code})" if one.code else ""
    return f"{one.recipient} signed `{one.state}`{why} at {iso(one.at)} by its clock: it {_STATES.get(one.state, 'says so')}."


def _logged(one: Logged, centre: str) -> str:
    about = f" for {one.peer}" if one.peer else ""
    what = _STEPS.get(one.step, f"`{one.step}`")
    return f"{centre}'s log has at position {one.position} of epoch {one.epoch}, {iso(one.time)}: {what}{about}."


def _watched(one: Watched, centre: str) -> str:
    by = f", countersigned by {_list(f'{witness} at {iso(at)}' for witness, at in one.witnesses)}" if one.witnesses else ""
    return f"{centre} signed a checkpoint of that log, {one.size} entries, at {iso(one.time)}{by}."


def _list(words: Iterable[str]) -> str:
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last
