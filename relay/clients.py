"""The clients of a node's API: who they are, which roles they have, and the digest of the token that each brings.

They stand in one JSON file that the settings name (``api.clients``), as ``{"v": 1, "clients": [...]}``. The file holds no token,
only its SHA-256. That is enough: a token is 256 random bits, which nobody guesses and no dictionary has, so a slow or salted
hash, made for passwords that people choose, would protect nothing and cost every request its time. A token is shown once, when it
is made.

:class:`Register` is the file as it is: it adds, revokes and rotates, under a lock, and replaces the file whole. :class:`Clients`
is what the running node goes by: it looks at the file every half second, so that a revoked token opens nothing any more within a
second, and what is written in it is never half read. A file that can't be read any more changes nothing and is said in the log.

A client that is one person's own may have a password, too, with which that person signs in at the console under the client's
name (:mod:`relay.passwords`). The token does not open the console, nor the password the API.

Errors raised: ``Misconfigured`` (``bad-clients-file``), ``Conflict`` (``client-exists``, ``client-revoked``), ``NotFound``
(``unknown-client``) and ``Refused`` (``bad-client``).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from relay import passwords
from relay.clock import from_ms, iso, now_ms, to_ms
from relay.errors import Conflict, Misconfigured, NotFound, Refused

Role = Literal["submit", "receive", "watch", "operate", "audit", "read", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
TOKEN_BYTES = 32
LONGEST_WORDS = 500

T = TypeVar("T")


def _usable(held: str) -> str:
    if not passwords.usable(held):
        raise ValueError("the password is not of the form that `relay token password` writes")
    return held


class Client(BaseModel):
    """Who may ask: a program or a person, its roles, and the digest of its token; times are RFC 3339, UTC.

    ``by`` and ``why`` say who changed the entry last, for the audit record.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=rf"^{NAME.pattern}$", description="name by which the audit record knows it")
    person: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="whose token it is, if it is one person's alone",
    )
    roles: Annotated[tuple[Role, ...], Field(min_length=1, max_length=len(ROLES))]
    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the token, in hex")
    password: Annotated[str, AfterValidator(_usable)] | None = Field(
        default=None, repr=False, description="what is kept of the password for the console"
    )
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    by: str | None = Field(default=None, max_length=100)
    why: str | None = Field(default=None, max_length=LONGEST_WORDS)

    def valid(self, now: int) -> bool:
        """Return whether its token opens anything at a time (milliseconds)."""
        moment = from_ms(now)
        return not (self.revoked and self.revoked <= moment) and not (self.expires and self.expires <= moment)

    @property
    def signs_in(self) -> bool:
        """Whether it may sign in at the console: it is one person's own and has a password."""
        return self.password is not None and self.person is not None

    @property
    def mark(self) -> str:
        """What changes when a session that it began must end: who it is, its roles or its password."""
        held = repr((self.name, self.person, self.roles, self.password, self.token_sha256))
        return hashlib.sha256(held.encode()).hexdigest()

    @property
    def actor(self) -> str:
        """Who it is, as the audit record says it."""
        return f"{self.name} ({self.person})" if self.person else self.name

    @property
    def somebody(self) -> str | None:
        """The person behind it, in a form in which the same name is the same; None when it is nobody's alone."""
        if self.person is None:
            return None
        return " ".join(unicodedata.normalize("NFKC", self.person).casefold().split())


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    v: Literal[1] = 1
    clients: list[Client]


def digest(token: bytes) -> str:
    """Return what the file holds of a token: its SHA-256 in hex."""
    return hashlib.sha256(token).hexdigest()


def new_token() -> str:
    """Return a new token: 256 random bits in base64url."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def read(path: Path) -> tuple[Client, ...]:
    """Return the clients of a file."""
    try:
        found = _File.model_validate_json(path.read_bytes()).clients
    except OSError as error:
        raise Misconfigured("bad-clients-file", f"The clients' file {path} can't be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "/".join(map(str, first["loc"]))
        raise Misconfigured("bad-clients-file", f"The clients' file {path} is no good at /{place}: {first['msg']}.") from None
    for what in ("name", "token_sha256"):
        doubled = [value for value, times in Counter(getattr(one, what) for one in found).items() if times > 1]
        if doubled:
            sentence = f"The clients' file {path} has two clients with one {'name' if what == 'name' else 'token'}."
            raise Misconfigured("bad-clients-file", sentence)
    return tuple(found)


class Register:
    """The clients' file, to be changed; whoever changes it holds a lock beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def clients(self) -> tuple[Client, ...]:
        """Return every client, the revoked and expired ones too."""
        return read(self._path)

    def create(self, *clients: Client) -> None:
        """Make the file with these clients."""
        _write(self._path, clients)

    def add(
        self,
        name: str,
        roles: tuple[Role, ...],
        *,
        person: str | None = None,
        expires: datetime | None = None,
        by: str | None = None,
        why: str | None = None,
    ) -> tuple[Client, str]:
        """Add a client; return it and its token, which is kept nowhere."""
        token = new_token()
        new = make(name, roles, token, person=person, expires=expires, by=by, why=why)

        def add(known: tuple[Client, ...]) -> tuple[tuple[Client, ...], Client]:
            if any(one.name == name for one in known):
                raise Conflict("client-exists", f"There is a client {name} already; rotate its token, or choose another name.")
            return (*known, new), new

        return self._change(add), token

    def revoke(self, name: str, *, by: str | None = None, why: str | None = None) -> Client:
        """Let a client's token open nothing any more; the entry stays, so that its name is not taken again."""

        def revoke(one: Client) -> Client:
            if one.revoked is not None:
                raise Conflict("client-revoked", f"The token of {name} was revoked {iso(to_ms(one.revoked))}.")
            return one.model_copy(update={"revoked": _now(), "by": by, "why": why})

        return self._replace(name, revoke)

    def rotate(self, name: str, *, by: str | None = None, why: str | None = None) -> tuple[Client, str]:
        """Give a client another token in place of its own, which opens nothing from now on."""
        token = new_token()

        def rotate(one: Client) -> Client:
            if one.revoked is not None:
                raise Conflict("client-revoked", f"The token of {name} was revoked; add a client with another name.")
            return one.model_copy(update={"token_sha256": digest(token.encode()), "created": _now(), "by": by, "why": why})

        return self._replace(name, rotate), token

    def set_password(self, name: str, password: str, *, by: str | None = None, why: str | None = None) -> Client:
        """Give a client of one person a password for the console in place of any it had; it takes tenths of a second."""
        held = passwords.hashed(password)

        def change(one: Client) -> Client:
            if one.revoked is not None:
                raise Conflict("client-revoked", f"The client {name} was revoked; add a client with another name.")
            if one.person is None:
                raise Refused("bad-client", f"The client {name} is no one person's, so it has no password for the console.")
            return one.model_copy(update={"password": held, "by": by, "why": why})

        return self._replace(name, change)

    def _replace(self, name: str, change: Callable[[Client], Client]) -> Client:
        def replace(known: tuple[Client, ...]) -> tuple[tuple[Client, ...], Client]:
            if not any(one.name == name for one in known):
                raise NotFound("unknown-client", f"There is no client {name[:80]}.")
            changed = tuple(change(one) if one.name == name else one for one in known)
            return changed, next(one for one in changed if one.name == name)

        return self._change(replace)

    def _change(self, change: Callable[[tuple[Client, ...]], tuple[tuple[Client, ...], T]]) -> T:
        try:
            with _locked(self._path):
                clients, result = change(read(self._path))
                _write(self._path, clients)
        except OSError as error:
            raise Misconfigured("bad-clients-file", f"The clients' file {self._path} can't be written: {error}.") from error
        return result


def make(
    name: str,
    roles: tuple[Role, ...],
    token: str,
    *,
    person: str | None = None,
    expires: datetime | None = None,
    by: str | None = None,
    why: str | None = None,
) -> Client:
    """Return a new client with a token."""
    given = {
        "name": name,
        "person": person,
        "roles": tuple(role for role in ROLES if role in roles) if set(roles) <= set(ROLES) else roles,
        "token_sha256": digest(token.encode()),
        "created": _now(),
        "expires": expires,
        "by": by,
        "why": why,
    }
    try:
        return Client.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise Refused("bad-client", f"`{'.'.join(map(str, first['loc']))}` of a client: {first['msg']}.") from None


class Clients:
    """What the running node goes by: the clients as the file has them now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.register = Register(path)
        self._seen = _stamp(path)
        self._known = read(path)
        self._by_digest = {one.token_sha256: one for one in self._known}

    @property
    def known(self) -> tuple[Client, ...]:
        """Every client, the revoked and expired ones too."""
        return self._known

    def find(self, token: bytes, now: int) -> Client | None:
        """Return the client whose token this is, if it opens anything at a time (milliseconds).

        The table is asked for the token's SHA-256: the time it takes tells nothing of a token to who can't choose its digest.
        """
        found = self._by_digest.get(digest(token))
        return found if found is not None and found.valid(now) else None

    def named(self, name: str) -> Client | None:
        """Return the client of a name, also a revoked or expired one."""
        return next((one for one in self._known if one.name == name), None)

    def valid(self, client: Client, now: int) -> bool:
        """Return whether a client that was found before may go on."""
        found = self._by_digest.get(client.token_sha256)
        return found is not None and found.name == client.name and found.valid(now)

    def reload(self) -> bool:
        """Read the file again if it is another one than before; return whether it was read.

        Raises ``Misconfigured``; then what was known stays in force, and the same file is not tried again.
        """
        stamp = _stamp(self.path)
        if stamp == self._seen:
            return False
        self._seen = stamp
        self._known = read(self.path)
        self._by_digest = {one.token_sha256: one for one in self._known}
        return True


def _write(path: Path, clients: tuple[Client, ...]) -> None:
    """Replace the file whole, so that nobody reads half of it."""
    raw = _File(clients=list(clients)).model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:  # mkstemp makes it for its owner alone
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's folder, so that two who change it at once do so one after the other."""
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _now() -> datetime:
    return from_ms(now_ms())
