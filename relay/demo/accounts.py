"""Who may sign in at the consoles of a demonstration: one invented person a centre, with a password of this run alone.

It is the same password at all centres: whoever looks at the demonstration types it in several consoles.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay import passwords
from relay.clients import Register, Role, make, new_token
from relay.network import Network
from relay.settings import load

NAME = "duty"
ROLES: tuple[Role, ...] = ("watch", "operate", "audit", "read")
PEOPLE = ("Ines Aldermoor", "Tomas Verhelst", "Mei-Lin Tavares", "Joaquin Perdriel", "Odile Santerre", "Rashid Okonjo")
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_WORDS, _SYLLABLES_A_WORD = 4, 2  # 49 bits: nobody tries that many in the life of a demonstration


@dataclass(frozen=True, slots=True)
class Account:
    """An account, and the address of the console at which it signs in."""

    console: str
    name: str
    person: str
    password: str = field(repr=False)


def add(network: Network) -> dict[str, Account]:
    """Give every centre of a network an account; return them by centre. Its nodes must not run yet."""
    password = new_password()
    held = passwords.hashed(password)
    accounts = {}
    for number, centre in enumerate(network.directory.active):
        person = PEOPLE[number % len(PEOPLE)]
        client = make(NAME, ROLES, new_token(), person=person, why="made for the demonstration")
        register = Register(load(network.node_file(centre)).api.clients)
        register.create(*register.clients(), client.model_copy(update={"password": held}))
        accounts[centre] = Account(f"http://{network.console(centre)}/", NAME, person, password)
    return accounts


def told(accounts: Mapping[str, Account]) -> str:
    """Return in words who may sign in where."""
    password = {account.password for account in accounts.values()}
    lines = [f"  {centre:8} {one.console}  {one.name} ({one.person})" for centre, one in accounts.items()]
    head = f"Consoles, each with an invented officer who has the roles {', '.join(ROLES)}; the password is {' '.join(password)}"
    return "\n".join([head, *lines])


def new_password() -> str:
    """Return a password that can be read out and typed."""
    return "-".join("".join(secrets.choice(_SYLLABLES) for _ in range(_SYLLABLES_A_WORD)) for _ in range(_WORDS))
