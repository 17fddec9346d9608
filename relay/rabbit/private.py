"""A private RabbitMQ for development and tests: one folder, loopback only, nothing left behind.

It starts the package's own server script (the wrapper in the path switches user and folder), as whatever user this
process has, with its own ``HOME``, configuration, plugins file, ports and port mapper (epmd, run as our child rather
than as a daemon), so that it neither sees nor disturbs another RabbitMQ on the machine. :meth:`PrivateBroker.start`
returns once AMQP and the management API both answer, or says why not and where the log is.

Three things end it: :meth:`~PrivateBroker.stop` (asks, then insists), :meth:`~PrivateBroker.kill` (as a power cut
would), and the death of this process by any cause: a watchdog holds a pipe from it and ends the broker when that
closes. Every process of the broker carries a mark in its environment, by which stragglers of Erlang, which change
session, are found and ended (:mod:`relay.rabbit.watch`).

``$RELAY_RABBITMQ`` names a folder with the programs of another RabbitMQ (``rabbitmq-server``, ``rabbitmqctl``, ``epmd``),
which is then used instead of the machine's own.

Errors raised: ``Misconfigured`` with the code ``rabbitmq-missing``; ``BrokerTrouble`` with ``broker-not-started``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote

from relay import topology
from relay.errors import BrokerTrouble, Misconfigured
from relay.ports import free_ports
from relay.rabbit.configuration import configuration, plugins
from relay.rabbit.management import Management
from relay.rabbit.watch import Watch
from relay.tls import ServerTls, client_context
from relay.topology import Topology

HOST = "127.0.0.1"
_PACKAGED = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_ELSEWHERE = "RELAY_RABBITMQ"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_AMQP_GREETING = b"AMQP\x00\x00\x09\x01"


class PrivateBroker:
    """One private RabbitMQ; restartable on the same ports and data; a context manager that stops it at the end.

    ``definitions`` (see :func:`relay.topology.definitions`) are loaded at boot; an administrator account is always
    added. With ``tls`` it speaks nothing else, and a client's certificate names its
    account. With ``temporary`` the end of the ``with`` block kills it and removes the folder instead of stopping it
    gracefully.
    """

    def __init__(
        self,
        folder: Path,
        *,
        amqp_port: int | None = None,
        management_port: int | None = None,
        admin: str = "relay-admin",
        password: str | None = None,
        definitions: Mapping[str, Any] | None = None,
        tls: ServerTls | None = None,
        temporary: bool = False,
    ) -> None:
        ports = free_ports(4)
        self.folder = folder.resolve()
        self.amqp_port = amqp_port or ports[0]
        self.management_port = management_port or ports[1]
        self.admin = admin
        self.password = password or secrets.token_urlsafe(24)
        self.definitions = definitions
        self.tls = tls
        self._internal_ports = ports[2:]
        self._temporary = temporary
        self._watch = Watch()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """RabbitMQ's log file."""
        return self.folder / "rabbitmq.log"

    @property
    def amqp(self) -> str:
        """The AMQP address without an account."""
        return f"{self._scheme}://{HOST}:{self.amqp_port}/%2F"

    @property
    def management_url(self) -> str:
        """The address of the management API."""
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.management_port}"

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._server is not None and self._server.poll() is None

    @property
    def pid(self) -> int | None:
        """The id of the server process, or None when it does not run."""
        return self._server.pid if self._server and self.running else None

    @property
    def bond(self) -> dict[str, str]:
        """Environment that ties a process to this broker, started or not: whoever has it ends with that, or with this process."""
        return self._watch.bond

    def url(self, user: str | None = None, password: str | None = None) -> str:
        """Return the AMQP address with an account: the administrator's unless another is given."""
        name, secret = user or self.admin, self.password if user is None else password or ""
        return f"{self._scheme}://{quote(name, safe='')}:{quote(secret, safe='')}@{HOST}:{self.amqp_port}/%2F"

    def management(self) -> Management:
        """Return a client of the management API as administrator."""
        return Management(self.management_url, self.admin, self.password, ca=self.tls.ca if self.tls else None)

    def start(self, limit: float = 60.0) -> PrivateBroker:
        """Start it and return when AMQP and management answer; raise ``BrokerTrouble`` after ``limit`` seconds."""
        script = _server_script()
        self._write_files()
        environment = {**self._environment(), **self._watch.bond}
        try:
            self._spawn(script, environment)
            self._await(self._accepts_amqp, limit)
            with self.management() as management:
                self._await(management.answers, limit)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, grace: float = 20.0) -> None:
        """Ask it to stop, wait ``grace`` seconds, then insist. Its data stays. RabbitMQ 3.10 takes about 6 s."""
        if self._server and self.running:
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(grace)
        self.kill()

    def kill(self) -> None:
        """End every process of it at once with SIGKILL, as a power cut would. Its data stays."""
        for process in (self._server, self._epmd):
            if process:
                process.kill()
                process.wait()
        self._server = self._epmd = None
        self._watch.end()

    def wipe(self) -> None:
        """Remove its data (all messages, queues and accounts); the next start begins anew."""
        if self.running:
            self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def __enter__(self) -> PrivateBroker:
        """Start it unless it runs."""
        return self if self.running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it; a temporary one is killed and its folder removed."""
        if not self._temporary:
            return self.stop()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        return None

    def _write_files(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = {
            "rabbitmq.conf": self._configuration(),
            "enabled_plugins": plugins(self.tls),
            "definitions.json": json.dumps(self._boot_definitions, indent=1) + "\n",
        }
        for name, content in files.items():
            (self.folder / name).write_text(content, encoding="utf-8")

    def _configuration(self) -> str:
        return configuration(HOST, self.amqp_port, self.management_port, self.folder / "definitions.json", self.tls)

    @cached_property
    def _boot_definitions(self) -> dict[str, Any]:
        """Return the given definitions with the administrator; made once, as every salt is another."""
        own = topology.definitions(Topology(), {}, administrators={self.admin: self.password})
        given = self.definitions or {}
        merged = {group: [*own[group], *given.get(group, ())] for group in own}
        merged["vhosts"] = [{"name": name} for name in sorted({vhost["name"] for vhost in merged["vhosts"]})]
        merged["users"] = list({user["name"]: user for user in reversed(merged["users"])}.values())
        return merged

    def _environment(self) -> dict[str, str]:
        epmd, distribution = self._internal_ports
        folder = self.folder
        return {
            "PATH": ":".join(filter(None, (os.environ.get(_ELSEWHERE), os.environ.get("PATH"), _SYSTEM_PATH))),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_CRASH_DUMP_SECONDS": "0",
            # Unique by its own port mapper, and constant, because the data belongs to the name.
            "RABBITMQ_NODENAME": "relay@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",  # not bound to cores, which several brokers and nodes share here
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": str(self.log),
            "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
            # The script then becomes the server instead of waiting for it: one process id to signal.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _spawn(self, script: Path, environment: dict[str, str]) -> None:
        epmd = shutil.which("epmd", path=environment["PATH"])
        if epmd is None:
            raise Misconfigured("rabbitmq-missing", "epmd, a part of Erlang, is not in the path.")
        with (self.folder / "startup.log").open("ab") as out:
            self._epmd = _popen([epmd, "-address", HOST, "-port", environment["ERL_EPMD_PORT"]], environment, out)
            self._server = _popen([str(script)], environment, out, self.folder)

    def _await(self, ready: Callable[[], bool], limit: float) -> None:
        deadline = time.monotonic() + limit
        while not ready():
            if not self.running:
                raise BrokerTrouble("broker-not-started", f"RabbitMQ ended while starting; see {self._logs()}.")
            if time.monotonic() > deadline:
                raise BrokerTrouble("broker-not-started", f"RabbitMQ did not answer within {limit:g} s; see {self._logs()}.")
            time.sleep(0.05)

    def _logs(self) -> str:
        return f"{self.log} and {self.folder / 'startup.log'}"

    def _accepts_amqp(self) -> bool:
        try:
            with socket.create_connection((HOST, self.amqp_port), timeout=2) as connection:
                return self._greets(connection) if self.tls is None else _shakes_hands(connection, self.tls)
        except OSError:
            return False

    def _greets(self, connection: socket.socket) -> bool:
        connection.sendall(_AMQP_GREETING)
        return connection.recv(1) == b"\x01"  # a method frame: connection.start

    @property
    def _scheme(self) -> str:
        return "amqps" if self.tls else "amqp"


def _shakes_hands(connection: socket.socket, tls: ServerTls) -> bool:
    """Return whether TLS begins; without a client's certificate it goes no further."""
    context = client_context(tls.ca)
    context.check_hostname = False  # our own process, whatever name its certificate is for
    with context.wrap_socket(connection):
        return True


def _popen(command: list[str], environment: dict[str, str], out: BinaryIO, folder: Path | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  the server's own programs
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a Ctrl-C in the terminal is for us; we then stop the broker in order
    )


def _server_script() -> Path:
    """Return RabbitMQ's own server script: of ``$RELAY_RABBITMQ``, else the package's, else the path's when no wrapper."""
    if elsewhere := os.environ.get(_ELSEWHERE):
        script = Path(elsewhere).absolute() / _PACKAGED.name  # unresolved: it may be a link that works by its name
        if not script.exists():
            raise Misconfigured("rabbitmq-missing", f"${_ELSEWHERE} is set, but there is no {script}.")
        return script
    if _PACKAGED.exists():
        return _PACKAGED.resolve()
    found = shutil.which("rabbitmq-server", path=os.environ.get("PATH", "") + ":" + _SYSTEM_PATH)
    if found is None:
        raise Misconfigured("rabbitmq-missing", "RabbitMQ is not installed: no rabbitmq-server was found.")
    return Path(found).resolve()
