"""The commands' way to a node: its local API, found through the settings file or named by hand.

Options of every client command: ``--config`` (or ``RELAY_CONFIG``) names the node's ``node.toml``, which says where the API
listens and where the tokens lie; ``--token-file`` names another token, and with ``--url`` does without the settings. Where the
API is HTTPS, the settings or ``relay --ca FILE`` say who vouches for it; to another machine nothing goes without. A problem
document comes back as the error that it was.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relay.cli.ends import give, say
from relay.errors import (
    BrokerTrouble,
    Busy,
    Conflict,
    Misconfigured,
    NotAllowed,
    NotFound,
    Problem,
    Refused,
    RelayError,
    StoreTrouble,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    import httpx2

    from relay.settings import Settings

Role = Literal["system", "operator"]

Config = Annotated[Path | None, typer.Option("--config", envvar="RELAY_CONFIG", help="The node's settings file.")]
Url = Annotated[str | None, typer.Option("--url", help="Where the node's API is, instead of --config.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="File with a token of your own, instead of the one beside --config.")
]
Ca = Annotated[Path | None, typer.Option("--ca", envvar="RELAY_CA", help="Who vouches for a node's HTTPS, in PEM.")]
Certificate = Annotated[
    Path | None, typer.Option("--certificate", envvar="RELAY_CERTIFICATE", help="Your certificate, for a node that asks for one.")
]
Key = Annotated[Path | None, typer.Option("--key", envvar="RELAY_KEY", help="Its private key, where that is another file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]

SECONDS = 60.0
_EVERY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}  # noqa: S104 - listened on, never connected to
_BY_STATUS: dict[int, type[RelayError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    429: Busy,
    503: BrokerTrouble,
    507: StoreTrouble,
}


@dataclass(frozen=True, slots=True)
class Tls:
    """How an API that speaks HTTPS is verified, and what it is shown."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    name: str | None = None
    """The host name that its certificate must have, where that is not the host that is asked."""

    def context(self) -> ssl.SSLContext:
        """Return the client's side; raise ``Misconfigured`` when a file can't be used."""
        from relay.tls import Identity, client_context

        identity = Identity(self.certificate, self.key or self.certificate) if self.certificate else None
        return client_context(self.ca, identity)


_given: ContextVar[Tls] = ContextVar("given", default=Tls())  # noqa: B039 - frozen


@dataclass(frozen=True, slots=True)
class Where:
    """A node's API, and how to get the token for a role."""

    url: str
    token: Callable[[Role], str]
    tls: Tls = field(default_factory=_given.get)


def take_tls(ca: Ca = None, certificate: Certificate = None, key: Key = None) -> None:
    """Carry sealed messages between customs and police coordination centres."""
    _given.set(Tls(ca, certificate, key))


def where(config: Path | None, url: str | None, token_file: Path | None) -> Where:
    """Return the node that the options of a command name."""
    if url is not None and token_file is not None:
        return Where(url.rstrip("/"), lambda _: _secret(token_file))
    if config is None:
        raise Misconfigured("no-node-named", "Which node? Give --config FILE, or --url with --token-file.")
    found = of_settings(_settings(config))
    return found if token_file is None else replace(found, token=lambda _: _secret(token_file))


def of_settings(settings: Settings) -> Where:
    """Return the node of these settings."""
    host, _, port = settings.api.listen.rpartition(":")
    folder, tls, given = settings.api.tokens, settings.api.tls, _given.get()
    scheme = "http" if tls.certificate is None else "https"
    url = f"{scheme}://{_EVERY_HOST.get(host, host)}:{port}"
    return Where(url, lambda role: _secret(folder / role), replace(given, ca=given.ca or tls.ca, name=tls.name))


class Client:
    """Requests to one node under one role's token."""

    def __init__(self, node: Where, role: Role) -> None:
        import httpx2

        from relay.tls import refuse_clear_request

        refuse_clear_request(node.url)
        headers = {"Authorization": f"Bearer {node.token(role)}"}
        # trust_env off: a proxy of the environment must never see a token
        verify = node.tls.context() if node.url.startswith("https:") else True
        self._http = httpx2.Client(base_url=node.url, headers=headers, timeout=SECONDS + 30, trust_env=False, verify=verify)
        self._extensions = {"sni_hostname": node.tls.name} if node.tls.name else {}
        self._url = node.url

    def ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        """Return the answer to a request; raise the error that the node answers with."""
        import httpx2

        try:
            answer = self._http.request(
                method, path, content=content, params=params, headers=headers, extensions=self._extensions
            )
        except httpx2.HTTPError as error:
            sentence = f"The node at {self._url} does not answer: {error or type(error).__name__}."
            raise RelayError("node-unreachable", sentence) from error
        if answer.status_code >= 400:
            raise _error(answer)
        return answer

    def stream(self, method: str, path: str, *, params: dict[str, Any] | None = None) -> Iterator[bytes]:
        """Yield the answer to a request as it comes; raise the error that the node answers with."""
        import httpx2

        try:
            with self._http.stream(method, path, params=params) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _error(answer)
                yield from answer.iter_bytes()
        except httpx2.HTTPError as error:
            sentence = f"The node at {self._url} does not answer: {error or type(error).__name__}."
            raise RelayError("node-unreachable", sentence) from error

    def close(self) -> None:
        """Close its connections."""
        self._http.close()


@contextmanager
def client(node: Where, role: Role) -> Iterator[Client]:
    """Give a client for the length of a block."""
    asking = Client(node, role)
    try:
        yield asking
    finally:
        asking.close()


def waits(answer: httpx2.Response) -> bool:
    """Return whether an act waits for a second person, and say so."""
    if answer.status_code != 202:
        return False
    found = answer.json()
    give(f"{found['id']}  {found['action']}  {found['subject']}  {found['state']}")
    say(f"It waits for a second person until {found['expires_at']}: relay approval approve {found['id']} --reason ...")
    return True


def error_of(problem: dict[str, Any]) -> RelayError:
    """Return the error that a problem document stands for."""
    status = int(problem["status"])
    kind = _BY_STATUS.get(status, Refused if status < 500 else RelayError)
    places = tuple(Problem(one["pointer"], one["code"], one["detail"]) for one in problem.get("errors") or ())
    return kind(problem["code"], problem["detail"], places)


def _error(answer: httpx2.Response) -> RelayError:
    try:
        return error_of(answer.json())
    except (ValueError, KeyError, TypeError):
        return RelayError("node-unreachable", f"What answers there is no node of the relay (HTTP {answer.status_code}).")


def _settings(path: Path) -> Settings:
    from relay.settings import load

    return load(path)


def _secret(path: Path) -> str:
    from relay.settings import read_secret

    return read_secret(path)
