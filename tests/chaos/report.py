"""What a campaign prints, and the row that it adds to the page of figures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.chaos.campaign import Options, Outcome
from tests.chaos.faults import KINDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "reliability.md"
END = "<!-- end of campaigns -->\n"


def table(options: Options, outcome: Outcome) -> str:
    """Return everything that came out, for a person."""
    verdict = outcome.verdict
    figures = {
        "seed": options.seed,
        "messages accepted": verdict.accepted,
        "deliveries promised": verdict.promised,
        "delivered": verdict.delivered,
        "lost": verdict.lost,
        "of these said to be delivered": verdict.false,
        "duplicated effects": verdict.duplicated,
        "unexpected": verdict.unexpected,
        "ends without a valid signature": outcome.unsigned,
        "without an end": verdict.open,
        "rejected": verdict.rejected,
        "expired": verdict.expired,
        "cancelled": verdict.cancelled,
        "refused": sum(verdict.refused.values()),
        "nodes that ended by themselves": len(outcome.ended),
        "broker begun anew by its operator": len(outcome.mended),
    }
    lines = [f"{name:34} {value:>9,}" for name, value in figures.items()]
    lines += [f"{'seconds':34} {outcome.seconds:>9.0f}", "", "faults injected: " + _kinds(outcome), ""]
    lines += [f"refused as {code}: {count:,}" for code, count in verdict.refused.items()]
    lines += [f"without {kind}: {why}" for kind, why in outcome.without.items()]
    lines += [f"ended by itself: {how}" for how in outcome.ended]
    lines += [f"without a leader after a restart of the broker: {queues}" for queues in outcome.mended]
    lines += outcome.missing[:20]
    lines += ["link                 effects      p50 s      p99 s"]
    for (origin, recipient), (count, middle, high) in outcome.latencies.items():
        lines.append(f"{origin:>5} to {recipient:<8} {count:>10,} {middle:>10.2f} {high:>10.2f}")
    return "\n".join(lines)


def row(options: Options, outcome: Outcome) -> str:
    """Return a campaign as a row of the page's table."""
    verdict = outcome.verdict
    cells = (
        f"`{command(options)}`",
        verdict.accepted,
        verdict.promised,
        verdict.delivered,
        verdict.lost,
        verdict.duplicated,
        verdict.unexpected,
        outcome.unsigned,
        _not_delivered(outcome),
        len(outcome.ended),
        _slowest(outcome),
    )
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells) + " |\n"


def repeatable(options: Options) -> bool:
    """Return whether the command of a row would run the same campaign again."""
    return not options.short and set(options.kinds) == set(KINDS)


def command(options: Options) -> str:
    """Return the command that runs a campaign again."""
    return f"make chaos MESSAGES={options.messages} FAULTS={options.faults} SEED={options.seed}"


def write(options: Options, outcome: Outcome, page: Path = PAGE) -> None:
    """Add a campaign's row to the page."""
    before, end, after = page.read_text(encoding="utf-8").partition(END)
    page.write_text(f"{before}{row(options, outcome)}{end}{after}", encoding="utf-8")


def _not_delivered(outcome: Outcome) -> str:
    """Return how much is open in the end, and what ended though nobody asked for it."""
    verdict = outcome.verdict
    ends = {"rejected": verdict.rejected, "expired": verdict.expired, "cancelled": verdict.cancelled}
    return ", ".join([f"{verdict.open:,}", *(f"{count:,} {state}" for state, count in ends.items() if count)])


def _kinds(outcome: Outcome) -> str:
    counted = Counter(fault.kind for fault in outcome.faults)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items())) or "none"


def _slowest(outcome: Outcome) -> str:
    """Return the 50th and 99th percentile of all effects towards each centre behind a bad link."""
    shown = []
    for centre in ("BRU", "LYO", "SIN", "BUE"):
        taken = [figures for (_, recipient), figures in outcome.latencies.items() if recipient == centre]
        if taken:
            shown.append(f"{centre} {max(one[1] for one in taken):.1f}/{max(one[2] for one in taken):.1f}")
    return ", ".join(shown)
