"""The public keys of a member, as operators see them: what each is for, when it counts, and how long there is still one."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from relay.clock import to_ms
from relay.directory import Key, Member
from relay.views.times import Moment, Shown

DAY_SECONDS = 86_400
SOON_DAYS = 60
"""Within so many days of its end a key is shown as ending soon, as `relay.custody` says it first."""

NEEDED = ("signing", "sealing")

KeyState = Literal["valid", "soon", "announced", "expired", "revoked"]


class ListedKey(Shown):
    """A public key of a member."""

    id: str
    use: str = Field(description="signing, sealing or checkpoint")
    algorithm: str
    state: KeyState
    valid_from: Moment
    valid_until: Moment
    revoked_from: Moment | None
    days_left: int | None = Field(description="whole days until it ends or is revoked; null when it is over")


def keys(member: Member, now: datetime) -> list[ListedKey]:
    """Return the keys of a member, by use, the newest first."""
    uses = ("signing", "checkpoint", "sealing")
    ordered = sorted(member.keys, key=lambda key: (uses.index(key.use), -key.valid_from.timestamp(), key.id))
    return [_key(key, now) for key in ordered]


def days_left(member: Member, now: datetime) -> int | None:
    """Return how many whole days there is still a key of each use that cannot be done without."""
    ends = [max((_end(key) for key in member.keys if key.use == use and key.usable(now)), default=now) for use in NEEDED]
    left = (min(ends) - now).total_seconds()
    return int(left // DAY_SECONDS) if left > 0 else None


def _end(key: Key) -> datetime:
    return min(key.valid_until, key.revoked_from or key.valid_until)


def _key(key: Key, now: datetime) -> ListedKey:
    left = (_end(key) - now).total_seconds()
    return ListedKey(
        id=key.id,
        use=key.use,
        algorithm=key.algorithm,
        state=_state(key, now, left),
        valid_from=to_ms(key.valid_from),
        valid_until=to_ms(key.valid_until),
        revoked_from=to_ms(key.revoked_from) if key.revoked_from else None,
        days_left=int(left // DAY_SECONDS) if left > 0 else None,
    )


def _state(key: Key, now: datetime, left: float) -> KeyState:
    if key.revoked_from is not None and key.revoked_from <= now:
        return "revoked"
    if left <= 0:
        return "expired"
    if key.valid_from > now:
        return "announced"
    return "soon" if left < SOON_DAYS * DAY_SECONDS else "valid"
