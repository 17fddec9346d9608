"""Audit leaves, pinned by their bytes: they are final, and a later release must write the same."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from relay.audit import COMMITMENTS_PREFIX, Audit, AuditStep, digest

AUDIT = Audit(1_780_000_000)
ENVELOPE = "0197295c-1c00-7000-8000-000000000001"
ONE, TWO = "11" * 32, "22" * 32


def test_the_digest_of_commitments_is_pinned() -> None:
    """SHA-256 over the prefix and the commitments' bytes, in order."""
    assert COMMITMENTS_PREFIX == b"intercentre-relay/1 commitments\0"
    assert digest([]) == "7f98ee6df3e032dea0c02878878535814baa27bd806469031786b00f0a50d3fa"
    assert digest([ONE]) == "907a14ae57b8399d05095af69965b07a6bfbbbee82f79ef9d6458ad88976c855"
    assert digest([ONE, TWO]) == "70e70775201d02a0434c403808804732e40c6b56922a630f24cad5f31315e43c"
    assert digest([TWO, ONE]) != digest([ONE, TWO])


def test_a_leaf_with_everything_is_pinned() -> None:
    """All members, in their order, compact, ASCII."""
    leaf = AUDIT.leaf(
        AuditStep.REJECTED,
        1_780_000_000_123,
        envelope=ENVELOPE,
        peer="BE-CUS",
        commitments=[ONE, TWO],
        code="expired",
        actor="duty officer",
        why="trop tard, déjà périmé",
    )
    assert leaf == (
        b'{"v":1,"epoch":1780000000,"time":1780000000123,"step":"rejected","envelope":"0197295c-1c00-7000-8000-000000000001",'
        b'"peer":"BE-CUS","count":2,"commitments":"70e70775201d02a0434c403808804732e40c6b56922a630f24cad5f31315e43c",'
        b'"code":"expired","actor":"duty officer","why":"trop tard, d\\u00e9j\\u00e0 p\\u00e9rim\\u00e9"}'
    )


def test_a_leaf_leaves_out_what_does_not_apply() -> None:
    """The first leaf of an epoch says only that it was opened; an empty list of commitments is not the same as none."""
    assert AUDIT.leaf(AuditStep.EPOCH_OPENED, 7) == b'{"v":1,"epoch":1780000000,"time":7,"step":"epoch-opened"}'
    assert AUDIT.leaf(AuditStep.SENT, 7, commitments=[]) == (
        b'{"v":1,"epoch":1780000000,"time":7,"step":"sent","count":0,"commitments":"7f98ee6df3e032dea0c02878878535814baa27bd806469031786b00f0a50d3fa"}'
    )


def test_the_steps_keep_their_names() -> None:
    """Names of steps are part of the leaves: they may be added, never changed."""
    assert {
        "epoch-opened",
        "submitted",
        "refused",
        "sent",
        "retried",
        "accepted",
        "delivered",
        "rejected",
        "taken",
        "refused-on-arrival",
        "taken-by-system",
        "expired-on-handout",
        "recalled",
        "purged",
        "released",
        "expired-by-retention",
        "hold-set",
        "hold-lifted",
        "release-asked",
        "release-answered",
        "request-reminded",
        "searched",
    } <= {str(step) for step in AuditStep}


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_breaks_out_of_its_place(actor: str, why: str) -> None:
    """Whatever an operator gives as name and reason, a leaf stays one JSON object in ASCII without a line break."""
    leaf = AUDIT.leaf(AuditStep.RETRIED, 7, actor=actor, why=why)
    assert leaf.isascii()
    assert b"\n" not in leaf
    read = json.loads(leaf)
    assert (read["actor"], read["why"], read["step"]) == (actor, why, "retried")
