"""What every listener of a node shares: who asks, how often, what it answers when something is wrong, and how it listens.

``served`` says what a surface needs of the node, ``surface`` is its life; ``listener`` runs uvicorn in the node's event loop,
``connection`` cuts off who is slow, ``probes`` tells supervisors one word; ``guard`` stands before every route; ``callers`` knows
who asks, ``limits`` how often, ``roster`` follows the clients' file, ``refusals`` counts who was turned away, ``four_eyes`` waits
for a second person; ``problems`` turns every error into an RFC 9457 document with a code of the catalogue; ``record`` writes what
all that leaves in the audit record.
"""
