"""The console: web pages on which operators see how their centre does, and act.

It is a surface of the node beside the API, with a listener of its own. Pages are rendered here and work without scripts; a small
one keeps what is open up to date. ``guard`` lets nobody in who is not signed in (``sign_in``, ``session``) and says what a
browser may do with an answer; ``page`` is what a page is made of, ``acts`` how an act is checked; ``rendering`` and
``languages`` turn what :mod:`relay.views` found into text in three languages; ``live`` sends it again when it changed. ``pages``
lists the pages.

Nothing here needs the store but what a page shows: who signs in, and what is wrong with the node, is told while it is broken.
"""

from relay.console.server import Console

__all__ = ["Console"]
