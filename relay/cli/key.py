"""``relay key``: this centre's keys, how one follows another, and what was taken under one that is revoked.

A rotation is announced: the new key is made here and its public half goes to the authorities, who list it in the directory before
it counts. The old one stays beside it until nothing needs it. All commands but ``affected`` read the settings, the key files and
the directory's files; the node may run or not, and takes up a new key file at SIGHUP or when it starts.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give, give_json, say
from relay.errors import Misconfigured, Refused

if TYPE_CHECKING:
    from relay.cli.keyfiles import KeyFile
    from relay.directory import Directory
    from relay.keyring import Standing
    from relay.settings import Settings

app = typer.Typer(help="This centre's keys: list, rotate, revoke, destroy.", no_args_is_help=True)

KeyUse = Literal["signing", "sealing", "checkpoint"]
UseOption = Annotated[KeyUse, typer.Option("--use", help="What the key is for.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The key's id, or its beginning.")]
WholeId = Annotated[str, typer.Argument(metavar="ID", help="The key's id.")]
MaybeId = Annotated[str | None, typer.Argument(metavar="ID", help="The revoked key's id; none: list the revoked keys.")]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="When it begins to count, as 2026-01-31T12:00:00Z.")]
Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Since when it must not count; none: now.")]
Days = Annotated[int, typer.Option("--days", min=1, max=3650, help="For how many days it is valid.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; none: beside the settings.")]
Urgent = Annotated[bool, typer.Option("--urgent", help="Less notice than the policy gives: the present key is lost or stolen.")]
Yes = Annotated[bool, typer.Option("--yes", help="Destroy it though something may still need it.")]
Why = Annotated[str, typer.Option("--why", help="Why; it stands in the version of the directory and is signed with it.")]

SIGNING_TIME = timedelta(hours=24)
"""What the authorities are given to sign and publish, on top of the notice."""


@app.command("list")
def list_(as_json: AsJson = False, config: Config = None) -> None:
    """List the keys: use, state, days left, id and file; a private key that may be destroyed is marked."""
    from relay.cli.keyfiles import read_all

    settings, _ = _settings(config)
    files, register, now = read_all(settings), _register(settings), datetime.now(UTC)
    paths = {one.key.id: one.path for one in files}
    rows = [_row(one, paths.get(one.id), register, now) for one in _standings(settings, files, register, now)]
    if as_json:
        give_json(rows)
        return
    for row in rows:
        left = "" if row["days_left"] is None else f"{row['days_left']} d"
        mark = "  may be destroyed" if row["needless"] else ""
        give(f"{row['use']:<10}  {row['state']:<9}  {left:>6}  {row['id']}  {row['file'] or '-'}{mark}")


@app.command("rotate")
def rotate(
    use: UseOption,
    from_: From = None,
    days: Days = 730,
    urgent: Urgent = False,
    out: Out = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Make a new private key, name it in the settings, and write what the authorities need to list it."""
    from relay.cli import keyfiles
    from relay.cli.authority import write_new

    settings, path = _settings(config)
    register, now = _register(settings), datetime.now(UTC).replace(microsecond=0)
    start = _start(from_, register, now, urgent=urgent)
    made = keyfiles.make(settings, use, now)
    announced = out or path.parent / f"{made.path.stem}.json"
    shown = public(made, start, start + timedelta(days=days))
    write_new(announced, json.dumps({"member": settings.centre, "keys": [shown]}, indent=2).encode() + b"\n")
    paths = [made.path, *getattr(settings.keys, use)]
    done = keyfiles.rewrite(path, use, paths)
    if as_json:
        give_json({"key": shown, "file": str(made.path), "announcement": str(announced), "settings_changed": done})
    else:
        give(f"{made.key.id}  {use}  counts from {start:%Y-%m-%dT%H:%M:%SZ}  {made.path}")
    if not done:
        say(f"Put this into [keys] of {path}: {keyfiles.line(path, use, paths)}")
    _tell_next(announced, use)


@app.command("revoke")
def revoke(id_: WholeId, why: Why, from_: Since = None, out: Out = None, config: Config = None) -> None:
    """Write the version of the directory that revokes a key, for one authority to sign."""
    from relay.cli.authority import moment, write_new
    from relay.directory import proposals

    settings, path = _settings(config)
    register, now = _register(settings), datetime.now(UTC).replace(microsecond=0)
    document = proposals.document_of(register)
    proposals.revoke(document, id_, moment(from_) if from_ else now)
    raw = proposals.next_version(register, document, why, now)
    proposal = out or path.parent / f"revoke-{id_[:8]}.json"
    write_new(proposal, raw)
    give(f"{proposal}  version {register.version + 1}")
    say(f"Next, any one authority: relay directory sign {proposal} --key PEM --current DIR, then relay directory publish")


@app.command("destroy")
def destroy(id_: Id, yes: Yes = False, config: Config = None) -> None:
    """Destroy a private key that nothing needs any more, and take it out of the settings."""
    from relay.cli import keyfiles
    from relay.keyring import destroyable

    settings, path = _settings(config)
    files, register, now = keyfiles.read_all(settings), _register(settings), datetime.now(UTC)
    found = keyfiles.find(files, id_)
    one = next(one for one in _standings(settings, files, register, now) if one.id == found.key.id)
    end = destroyable(one, register)
    if now < end and not yes:
        sentence = f"The {found.use} key {found.key.id} may be needed until {end:%Y-%m-%d %H:%M}Z. Give --yes to destroy it now."
        raise Refused("key-needed", sentence)
    left = [other.path for other in files if other.use == found.use and other.path != found.path]
    if not left and found.use != "checkpoint":
        raise Refused("key-needed", f"It is the only {found.use} key that the settings name; without one no node starts.")
    if not keyfiles.rewrite(path, found.use, left):
        say(f"Put this into [keys] of {path}: {keyfiles.line(path, found.use, left)}")
    keyfiles.destroy(found.path)
    give(f"{found.key.id}  {found.use}  destroyed  {found.path}")
    say("A node that runs holds it until SIGHUP or a restart; backups hold it until you destroy them.")


@app.command("affected")
def affected(
    id_: MaybeId = None, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None
) -> None:
    """List what the node took under a revoked key since it must not count: message, origin, received, signed (as it says)."""
    with client(where(config, url, token_file), "operator") as node:
        if id_ is None:
            answer: list[dict[str, Any]] = node.ask("GET", "/v1/keys").json()["revoked"]
        else:
            answer = []
            while page := node.ask(
                "GET", f"/v1/keys/{id_}/affected", params={"after": answer[-1]["id"] if answer else ""}
            ).json():
                answer += page["messages"]
                if not page["more"]:
                    break
    if as_json:
        give_json(answer)
        return
    for one in answer:
        if id_ is None:
            give(f"{one['key']}  {one['centre']:<17}  revoked from {one['revoked_from']}  {one['messages']} messages")
        else:
            give(f"{one['id']}  {one['origin']:<17}  received {one['received_at']}  signed {one['signed_at']}")


def _settings(config: Path | None) -> tuple[Settings, Path]:
    from relay.settings import load

    if config is None:
        raise Misconfigured("no-node-named", "Which node? Give --config FILE: this works on the files of its keys.")
    return load(config), config


def _register(settings: Settings) -> Directory:
    """Return the version of the directory in the centre's files, verified; it may be expired."""
    from relay.cli.authority import ANY_TIME
    from relay.directory import Paths, begin, read_bundle

    files = settings.directory
    paths = Paths(files.root, files.file, files.signatures)
    return begin(settings.network, paths.first_root(), read_bundle(paths), ANY_TIME).directory


def _standings(settings: Settings, files: Sequence[KeyFile], register: Directory, now: datetime) -> tuple[Standing, ...]:
    from relay.keyring import standings

    member = next((one for one in register.members if one.id == settings.centre), None)
    return standings(member.keys if member else (), {one.key.id: one.use for one in files}, now)


def _row(one: Standing, path: Path | None, register: Directory, now: datetime) -> dict[str, Any]:
    from relay.keyring import destroyable, last_moment

    listed = one.listed
    end = destroyable(one, register)
    return {
        "id": one.id,
        "use": one.use,
        "state": one.state,
        "file": str(path) if path else None,
        "valid_from": listed.valid_from.isoformat() if listed else None,
        "valid_until": listed.valid_until.isoformat() if listed else None,
        "revoked_from": listed.revoked_from.isoformat() if listed and listed.revoked_from else None,
        "days_left": max((last_moment(listed) - now).days, 0) if listed else None,
        "needed_until": end.isoformat() if one.held else None,
        "needless": one.held and listed is not None and end <= now,
    }


def _start(given: str | None, register: Directory, now: datetime, *, urgent: bool) -> datetime:
    """Return when a new key begins to count; refuse less notice than the policy gives, unless that is said."""
    from relay.cli.authority import moment

    notice = timedelta(hours=register.policy.key_notice_hours)
    start = moment(given).astimezone(UTC) if given else now if urgent else now + notice + SIGNING_TIME
    if start < now + notice and not urgent:
        sentence = f"Keys are announced {register.policy.key_notice_hours} h ahead; {start:%Y-%m-%dT%H:%M:%SZ} is sooner."
        raise Refused("key-notice", sentence)
    return start


def public(made: KeyFile, start: datetime, end: datetime) -> dict[str, str]:
    """Return the public half of a key as the directory lists it."""
    return {
        "id": made.key.id,
        "use": made.use,
        "algorithm": getattr(made.key, "algorithm", "ed25519"),
        "public": base64.b64encode(made.key.public).decode(),
        "valid_from": start.isoformat(),
        "valid_until": end.isoformat(),
    }


def _tell_next(announced: Path, use: str) -> None:
    say(f"Next, an authority: relay directory propose --add-key {announced} --why TEXT --out FILE --current DIR")
    held = "before the key counts: peers seal to it from then on" if use == "sealing" else "before the key counts"
    say(f"Then send the node SIGHUP, or restart it, {held}; it refuses no key that is not listed yet.")
