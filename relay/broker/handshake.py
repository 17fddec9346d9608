"""What a failed TLS handshake with the broker means to people: a ``BrokerTrouble`` with a code for each cause.

What this side finds wrong with the broker's certificate is an ``SSLCertVerificationError`` with OpenSSL's code
(``X509_verify_cert_error_string(3)``). What the broker finds wrong with this side's arrives as an alert (RFC 8446, 6.2); under
TLS 1.3 it comes after this side is done and speaks, and is lost when the broker closes before it has read that. Then
:func:`ask` shakes hands once more and says nothing, so that the alert is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from yarl import URL

from relay.errors import BrokerTrouble

_NOT_VALID_NOW = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_ANOTHER_HOST = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_ALERT = "_ALERT_"
_ABOUT_US = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")
"""Alerts that speak of the client's certificate; without one, Erlang's TLS 1.2 says no more than ``handshake_failure``."""


def trouble(error: BaseException, where: object) -> BrokerTrouble | None:
    """Return what an error, or what caused it, means when it is one of TLS; None when it is not."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__
    if isinstance(found, ssl.SSLCertVerificationError):
        return _of_certificate(found, where)
    return _of_handshake(found, where) if isinstance(found, ssl.SSLError) else None


async def ask(url: URL, context: ssl.SSLContext, error: BaseException, seconds: float) -> ssl.SSLError | None:
    """Return why the broker ended a connection, when ``error`` says that it did and it says why; None otherwise."""
    if not isinstance(error.__cause__, EOFError | ConnectionResetError | BrokenPipeError):
        return None
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
            try:
                await reader.read(1)
            except ssl.SSLError as alert:
                return alert
            finally:
                writer.transport.abort()
    return None


def _of_certificate(error: ssl.SSLCertVerificationError, where: object) -> BrokerTrouble:
    words = error.verify_message.rstrip(".")
    if error.verify_code in _NOT_VALID_NOW:
        return BrokerTrouble("broker-certificate-expired", f"The certificate of the broker at {where} is not valid now: {words}.")
    if error.verify_code in _ANOTHER_HOST:
        return BrokerTrouble(
            "broker-certificate-wrong-host", f"The certificate of what answers at {where} is another's: {words}."
        )
    sentence = f"Nobody whom this node trusts vouches for the certificate of what answers at {where}: {words}."
    return BrokerTrouble("broker-certificate-unknown", sentence)


def _of_handshake(error: ssl.SSLError, where: object) -> BrokerTrouble:
    reason = error.reason or ""
    words = reason.replace("_", " ").lower() or "the connection ended in the handshake"
    if _ALERT in reason and any(word in reason for word in _ABOUT_US):
        sentence = f"The broker at {where} refuses the certificate that this node showed, or misses one: {words}."
        return BrokerTrouble("client-certificate-refused", sentence)
    return BrokerTrouble("broker-tls-failed", f"There is no encrypted connection to the broker at {where}: {words}.")
