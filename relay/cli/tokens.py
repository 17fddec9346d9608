"""``relay token``: who may use a node's API, and with which roles.

With ``--config`` alone the commands work on the clients' file that the settings name, whether the node runs or not; a running one
goes by it within a second. With the ``--token-file`` of a client with the role `admin` they ask the node. ``password`` works on
the file alone, so that a password goes over no network.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give, give_json, read_input, say
from relay.errors import RelayError

if TYPE_CHECKING:
    from relay.clients import Client, Register

app = typer.Typer(help="Who may use the node's API, and for what.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The client's name: small letters, digits, dots, hyphens.")]
Roles = Annotated[
    list[str], typer.Option("--role", help="submit, receive, watch, operate, audit, read or admin; may be given several times.")
]
Settings = Annotated[Path, typer.Option("--config", envvar="RELAY_CONFIG", help="The node's settings file.")]
Person = Annotated[str | None, typer.Option("--person", help="Whose token it is, if it is one person's alone.")]
Days = Annotated[int | None, typer.Option("--days", min=1, max=3650, help="After so many days it opens nothing any more.")]
Reason = Annotated[str, typer.Option("--reason", help="Who ordered it and why; the audit record keeps it.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the password, `-` for standard input; without it you are asked.")
]
Save = Annotated[Path | None, typer.Option("--save", help="Write the token to this new file, for its owner alone; print none.")]


@app.command("add")
def add(
    name: Name,
    role: Roles,
    reason: Reason,
    person: Person = None,
    days: Days = None,
    save: Save = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Add a client, and show its token this once."""
    expires = None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    if (register := _register(config, url, token_file)) is not None:
        made, token = register.add(name, tuple(role), person=person, expires=expires, **_by(reason))  # type: ignore[arg-type]
        shown = _shown(made)
    else:
        given = {"name": name, "roles": role, "person": person, "expires": expires and expires.isoformat(), "reason": reason}
        answer = _ask("POST", "/v1/clients", given, config, url, token_file)
        shown, token = answer["client"], answer["token"]
    _hand_out(shown, token, save, as_json=as_json)


@app.command("rotate")
def rotate(
    name: Name,
    reason: Reason,
    save: Save = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Give a client a new token; the one it had opens nothing any more."""
    if (register := _register(config, url, token_file)) is not None:
        made, token = register.rotate(name, **_by(reason))
        shown = _shown(made)
    else:
        answer = _ask("POST", f"/v1/clients/{quote(name, safe='')}/rotate", {"reason": reason}, config, url, token_file)
        shown, token = answer["client"], answer["token"]
    _hand_out(shown, token, save, as_json=as_json)


@app.command("revoke")
def revoke(name: Name, reason: Reason, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Let a client's token open nothing any more, for good."""
    if (register := _register(config, url, token_file)) is not None:
        register.revoke(name, **_by(reason))
    else:
        _ask("POST", f"/v1/clients/{quote(name, safe='')}/revoke", {"reason": reason}, config, url, token_file)
    give(f"{name}  revoked")


@app.command("password")
def password(name: Name, reason: Reason, config: Settings, password_file: PasswordFile = None) -> None:
    """Give a client of one person a password for the console; sessions under the one it had end."""
    from relay.clients import Register
    from relay.settings import load

    register = Register(load(config).api.clients)
    register.set_password(name, _password(name, password_file), **_by(reason))
    say(f"{name} signs in at the console with this password from now on.")


def _password(name: str, file: Path | None) -> str:
    """Return a new password: the first line of a file, or what a person types twice."""
    if file is None:
        return str(typer.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True, err=True))
    lines = read_input(str(file)).decode(errors="replace").splitlines()
    return lines[0] if lines else ""


@app.command("list")
def list_(as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """List the clients with their roles; tokens are kept nowhere."""
    if (register := _register(config, url, token_file)) is not None:
        found = [_shown(one) for one in register.clients()]
    else:
        with client(where(config, url, token_file), "operator") as node:
            found = node.ask("GET", "/v1/clients").json()["clients"]
    if as_json:
        give_json({"clients": found})
        return
    for one in found:
        state = "valid" if one["valid"] else f"revoked {one['revoked']}" if one["revoked"] else f"expired {one['expires']}"
        give("  ".join((one["name"], ",".join(one["roles"]), one["person"] or "-", state)))


def _register(config: Path | None, url: str | None, token_file: Path | None) -> Register | None:
    """Return the clients' file of the settings, or None when a node is to be asked."""
    if url is not None or token_file is not None or config is None:
        return None
    from relay.clients import Register
    from relay.settings import load

    return Register(load(config).api.clients)


def _by(reason: str) -> dict[str, str]:
    import getpass

    return {"by": f"{getpass.getuser()} on the node's machine", "why": reason}


def _ask(
    method: str, path: str, body: dict[str, Any], config: Path | None, url: str | None, token_file: Path | None
) -> dict[str, Any]:
    with client(where(config, url, token_file), "operator") as node:
        answer: dict[str, Any] = node.ask(method, path, content=json.dumps(body).encode()).json()
    return answer


def _shown(one: Client) -> dict[str, Any]:
    from relay.clock import now_ms

    found = one.model_dump(mode="json", include={"name", "person", "roles", "created", "expires", "revoked"})
    return {**found, "valid": one.valid(now_ms())}


def _hand_out(shown: dict[str, Any], token: str, save: Path | None, *, as_json: bool) -> None:
    """Give a new token, this once: to a file, or to standard output."""
    if save is not None:
        _save(save, token)
    if as_json:
        give_json({"client": shown} if save is not None else {"client": shown, "token": token})
        return
    if save is None:
        give(token)
    say(f"{shown['name']} has a new token for {', '.join(shown['roles'])}. It is kept nowhere: who loses it needs another.")


def _save(path: Path, token: str) -> None:
    from relay.keys import write_private

    try:
        write_private(path, f"{token}\n".encode())
    except OSError as error:
        sentence = f"{path} can't be written: {error.strerror}; the token is lost, so rotate it."
        raise RelayError("cannot-write", sentence) from error
