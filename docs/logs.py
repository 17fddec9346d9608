"""The page of the log, from the table of its events: every event with its level, its meaning and its fields."""

from __future__ import annotations

from relay.log import FIELDS, Event

HEAD = """\
# The log

One JSON object a line (pretty on a terminal): `timestamp` (RFC 3339, UTC), `level`, `event`, `centre`, and the fields below. An
event is one of this list and nothing else. Fields name centres, ids, counts, codes and times: never what a message says, never a
reason that a person gave, no key, no token; tests look for each.

It goes to standard error or output (`log.stream`), or to a file that only its owner can read, renamed when it is full
(`log.file`, `log.file_bytes`, `log.files`); see [settings](settings.md). What can't be written, since the disk is full or nobody
reads any more, is left out: the node works on, and what it promises stands in its store.

## One message

Each step of each message is one line, with the message's id as `message`: the same id at every centre, so that one search in the
logs of two centres shows its whole way.

```
$ grep -h 01a208ec-791d-76a5-883d-978fff7d0cac bru/relay.jsonl lyo/relay.jsonl
```

The lines of its way, in this order at its origin: `message.submitted`, `message.sent` (or `message.caught-up`, for each peer that
had been left out), and for each peer `message.accepted` and `message.delivered`, or `message.rejected`, `message.expired`,
`message.cancelled`; on the way perhaps `message.resent` or `message.dead`, and `message.voided` for a peer that asks for it after
its end. At its recipient: `message.taken`, `message.given`, `message.handed-over`, or `inbox.rejected`, `handover.deferred`,
`handover.rejected`, `handover.dead`; and `message.recalled` when it was taken back. At both, when its time is up:
`retention.purged` (`retention.rejected` before it, where the centre's system never took it). A receipt may overtake the broker's
confirm.

A message that never came has no id at its recipient. That its origin won't send it is `inbox.voided` there, with the sequences
that this is about; `message.voided` at its origin has the same as `first`.

`age_ms` says how long after its beginning a step came: the id begins with the time at which it was given, by its origin's clock.
A peer's clock that is wrong shows there.

A system that follows what it does under a trace id of its own (W3C trace context, 32 hex digits) gives it as the field
`correlation` of the [message](messages/marks.md). It travels inside the seal, so nobody on the way sees it, and stands as
`correlation` in `message.submitted` and in `message.taken` (or `inbox.rejected`) of every recipient, beside the message's id.

Lines of messages cost about 2 µs of CPU each in full batches, 10 µs for a message alone (`python -m tests.bench.lines`): two
parts in a hundred of what a message costs altogether. A centre that needs none sets `log.messages = false`: the ordinary steps
are left out, and whatever goes wrong with a message (`warning` and above) is said all the same. Counts for each envelope or group
(`outbox.stored`, `inbox.taken` and so on) are written at the level `debug`.
"""


def page(note: str) -> str:
    """Return the page; ``note`` is its first line."""
    lines = [f"{note}\n{HEAD}", "## Events\n", "| event | level | meaning | fields |", "|---|---|---|---|"]
    for event in Event:
        fields = " ".join(f"`{field}`" for field in event.fields)
        lines.append(f"| `{event.value}` | {event.level} | {event.meaning} | {fields} |")
    lines += ["\n## Fields\n", "| field | meaning |", "|---|---|"]
    lines += [f"| `{field}` | {meaning} |" for field, meaning in sorted(FIELDS.items())]
    return "\n".join(lines) + "\n"
