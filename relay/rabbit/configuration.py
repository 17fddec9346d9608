"""The ``rabbitmq.conf`` of a private broker: loopback only, definitions at boot, and TLS where it has a certificate.

With a certificate nothing listens in clear: AMQP asks every client for a certificate and takes its common name as the account
(SASL EXTERNAL), and the management API is HTTPS. A broker that others run needs the same lines
(``docs/howto/encrypt-the-connections.md``).
"""

from __future__ import annotations

from pathlib import Path

from relay.tls import ServerTls

VERSIONS = ("tlsv1.3", "tlsv1.2")


def configuration(host: str, amqp_port: int, management_port: int, definitions: Path, tls: ServerTls | None) -> str:
    """Return the text of ``rabbitmq.conf``."""
    lines = {
        **(_clear(host, amqp_port, management_port) if tls is None else _encrypted(host, amqp_port, management_port, tls)),
        # Not load_definitions, which has no such switch: a restart must not bring back what was removed since.
        "definitions.import_backend": "local_filesystem",
        "definitions.local.path": str(definitions),
        "definitions.skip_if_unchanged": "true",
        "log.console": "false",
        "log.file.level": "info",
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def plugins(tls: ServerTls | None) -> str:
    """Return the text of ``enabled_plugins``."""
    names = ["rabbitmq_management", *(["rabbitmq_auth_mechanism_ssl"] if tls else [])]
    return f"[{','.join(names)}].\n"


def _clear(host: str, amqp_port: int, management_port: int) -> dict[str, str]:
    return {
        "listeners.tcp.1": f"{host}:{amqp_port}",
        "management.tcp.ip": host,
        "management.tcp.port": str(management_port),
    }


def _encrypted(host: str, amqp_port: int, management_port: int, tls: ServerTls) -> dict[str, str]:
    files = {"cacertfile": tls.ca, "certfile": tls.identity.certificate, "keyfile": tls.identity.key}
    return {
        "listeners.tcp": "none",
        "listeners.ssl.1": f"{host}:{amqp_port}",
        **{f"ssl_options.{name}": str(file) for name, file in files.items()},
        **{f"ssl_options.versions.{number}": version for number, version in enumerate(VERSIONS, start=1)},
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "auth_mechanisms.1": "EXTERNAL",
        "auth_mechanisms.2": "PLAIN",  # the administrator's, inside TLS
        "ssl_cert_login_from": "common_name",
        "management.ssl.ip": host,
        "management.ssl.port": str(management_port),
        **{f"management.ssl.{name}": str(file) for name, file in files.items()},
        **{f"management.ssl.versions.{number}": version for number, version in enumerate(VERSIONS, start=1)},
    }
