"""What a campaign prints, and the row that it adds to the page of figures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.chaos.campaign import Options, Outcome

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
        verdict.open,
        len(outcome.ended),
        _slowest(outcome),
    )
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells) + " |\n"


def command(options: Options) -> str:
    """Return the command that runs a campaign again."""
    return f"make chaos MESSAGES={options.messages} FAULTS={options.faults} SEED={options.seed}"


def write(options: Options, outcome: Outcome) -> None:
    """Add a campaign's row to the page."""
    before, end, after = PAGE.read_text(encoding="utf-8").partition(END)
    PAGE.write_text(f"{before}{row(options, outcome)}{end}{after}", encoding="utf-8")


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
