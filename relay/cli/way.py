"""``relay message show``: the whole way of a message across centres, as people read it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give
from relay.cli.top import clean

Id = Annotated[str, typer.Argument(metavar="ID", help="A message's id, sent or received.")]

_UNKNOWN = "?"
_SAID = {"silent": "silent", "never": "not heard yet"}


def show(message_id: Id, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Show a message's whole way: every step at every centre, by whose signed receipt, recalls and awaited answers."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", f"/v1/messages/{quote(message_id, safe='')}/way")
    if as_json:
        give(answer.text)
        return
    for line in lines(answer.json()):
        give(line)


def lines(way: dict[str, Any]) -> list[str]:
    """Return a message's way, a line a step."""
    kind = f"  {way['kind']}" if way["kind"] else ""
    said = [f"{way['id']}  {way['direction']}  {way['origin']}  {way['precedence']}{kind}"]
    said += [f"  submitted {way['submitted_at']}" + (f", received {way['received_at']}" if way["received_at"] else "")]
    said += [f"  deadline {way['deadline']}"] if way.get("deadline") else []
    said += [f"  content purged {way['purged_at']}"] if way["purged_at"] else []
    said += ["  under legal hold"] if way["legal_hold"] else []
    said += [f"  versions  {' '.join(way['versions'])}"] if len(way["versions"]) > 1 else []
    said += [f"  cancelled by {one}" for one in way["cancelled_by"]]
    said += _recalled(way["recipients"])
    for one in way["recipients"]:
        said += _recipient(one)
    said += _here(way["here"]) if way["here"] else []
    return said + [_clock(one) for one in way["clocks"]]


def _recipient(one: dict[str, Any]) -> list[str]:
    """Return the steps at a centre, in order; of what it signed, the receipt that says so."""
    name = one["centre"]
    if one["state"] is None:
        return [_line(name, _UNKNOWN, "its origin alone knows", "")]
    steps = [("queued", one["queued_at"], ""), ("sent", one["sent_at"], "")]
    for state in ("accepted", "delivered", "rejected"):
        if promise := one[state]:
            signed = f"receipt {promise['receipt']}" if promise["receipt"] else ""
            steps.append((state, promise["at"], _joined(one["code"] if state == one["state"] else None, signed)))
    if one["state"] not in {state for state, at, _ in steps if at}:
        steps.append((one["state"], one["since"], one["code"] or ""))
    said = [_line(name, state, at, more) for state, at, more in steps if at]
    said += [_line(name, "again", one["next_attempt"], "")] if one["next_attempt"] else []
    said += _awaited(name, one.get("peer"), one.get("duty"))
    return said + [
        _line(name, note["state"], note["at"], _joined(note["code"], f"came late: {one['state']} stands"))
        for note in one["notes"]
    ]


def _awaited(name: str, peer: str | None, duty: dict[str, str] | None) -> list[str]:
    """Return whom to call about a recipient that does not live and whose word is awaited."""
    if peer not in _SAID or duty is None:
        return []
    return [f"  {name:<17}  {_SAID[peer]}: call {clean(duty['name'])}, {clean(duty['telephone'])}, {clean(duty['email'])}"]


def _recalled(recipients: list[dict[str, Any]]) -> list[str]:
    told = [one for one in recipients if one["recall"]]
    if not told:
        return []
    confirmed = sum(one["recall"]["purged_at"] is not None for one in told)
    return [f"  recalled: {confirmed} of {len(told)} confirmed", *(_line(one["centre"], *_purged(one["recall"])) for one in told)]


def _purged(recall: dict[str, Any]) -> tuple[str, str, str]:
    if recall["purged_at"]:
        return "purged", recall["purged_at"], f"by {recall['by']}"
    return ("asked", "to purge", f"by {recall['by']}") if recall["by"] else ("not", "reachable", "")


def _here(here: dict[str, Any]) -> list[str]:
    """Return where a received message stands here."""
    said = [_line("(here)", here["state"], here["since"], here["code"] or "")]
    said += [_line("(here)", "given", here["given_at"], "to the centre's system")] if here["given_at"] else []
    return said + ([_line("(here)", "again", here["retry_at"], f"attempt {here['attempts'] + 1}")] if here["retry_at"] else [])


def _clock(one: dict[str, Any]) -> str:
    until = f"due {one['due_at']}" if one["due_at"] else f"{one['hours']} h from when it is there"
    whom = "asked" if one["side"] == "asked" else "asks"
    late = "  overdue" if one["overdue"] else ""
    return f"  {one['peer']:<17}  {whom}: {one['state']}, {until}{late}, {one['answers']} answers"


def _joined(*words: str | None) -> str:
    return "  ".join(word for word in words if word)


def _line(centre: str, state: str, at: str, more: str) -> str:
    return f"  {centre:<17}  {state:<9}  {at}{'  ' + more if more else ''}"
