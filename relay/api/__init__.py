"""The local API: what a centre's own system and its operators say to their node over HTTP.

``server`` listens inside the node's event loop and stops gracefully, and answers supervisors on a listener of its own; ``app``
puts the routes together; ``auth`` lets nobody past without a token of a client with the role that a route declares; ``asked``
reads a request within its limits; ``contract`` says all of it as OpenAPI. The other modules hold the routes; what a listener
needs besides is in :mod:`relay.web`.

It promises: an answer of success comes after the commit; a message's bytes are validated once and never written anew; a
refused request stores nothing but an audit leaf; no answer and no log line holds more of a message than the 40 characters of
a problem's sentence.

Errors raised: ``Misconfigured`` with ``address-in-use`` and ``bad-clients-file``; everything else becomes an answer.
"""

from relay.api.app import openapi
from relay.api.server import Api

__all__ = ["Api", "openapi"]
