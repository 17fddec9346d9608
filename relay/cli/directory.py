"""``relay directory``: what authorities do to the register of centres, and what anybody may look at.

``propose`` writes the next version, each authority signs it with ``sign`` on its own machine, ``verify`` says whether it is
enough, ``publish`` puts it where nodes read it. ``show`` and ``diff`` change nothing.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import root
from relay.cli.authority import (
    ANY_TIME,
    Current,
    KeyFile,
    Network,
    Out,
    Proposal,
    current,
    document,
    moment,
    names_of,
    read_either,
    signatures_of,
    signed,
    write_new,
)
from relay.cli.client import AsJson
from relay.cli.ends import REFUSED, Ended, give, give_json, say, tell
from relay.errors import Misconfigured, Refused

if TYPE_CHECKING:
    from relay.directory import Bundle, Comparison, Directory, Signed, Trusted

app = typer.Typer(help="The signed register of centres: propose, sign, verify, publish.", no_args_is_help=True)
app.add_typer(root.app, name="root")

Why = Annotated[str, typer.Option("--why", help="Why; it stands in the version and is signed with it.")]
Suspend = Annotated[list[str] | None, typer.Option("--suspend", metavar="ID", help="Suspend a centre; again for each.")]
Revoke = Annotated[list[str] | None, typer.Option("--revoke-key", metavar="KEY", help="Revoke a key; again for each.")]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Since when it must not count; none: now.")]
RemoveKey = Annotated[list[str] | None, typer.Option("--remove-key", metavar="KEY", help="Take a key out; again for each.")]
AddKey = Annotated[list[Path] | None, typer.Option("--add-key", metavar="FILE", help="Keys that a centre made, as JSON.")]
Members = Annotated[Path | None, typer.Option("--members", metavar="FILE", help="Members to admit or change; TOML or JSON.")]
Edited = Annotated[Path | None, typer.Option("--edited", metavar="FILE", help="The whole version, edited by hand, instead.")]
Renew = Annotated[bool, typer.Option("--renew", help="Let it expire --days from now.")]
Days = Annotated[int, typer.Option("--days", help="How long a renewed version counts; it warns in the last fifth.")]
NewRoot = Annotated[Path | None, typer.Option("--root", metavar="FILE", help="A signed root that goes with it.")]
Where = Annotated[Path, typer.Argument(metavar="PATH", help="A folder with a directory in force, or a file.")]
To = Annotated[list[Path] | None, typer.Option("--to", metavar="DIR", help="Where nodes read; none: --current.")]
MaybeProposal = Annotated[Path | None, typer.Argument(metavar="FILE", help="The version; none: a root alone.")]


@app.command("propose")
def propose(
    out: Out,
    why: Why,
    folder: Current = Path(),
    suspend: Suspend = None,
    revoke_key: Revoke = None,
    from_: From = None,
    remove_key: RemoveKey = None,
    add_key: AddKey = None,
    members: Members = None,
    edited: Edited = None,
    renew: Renew = False,
    days: Days = 365,
    network: Network = None,
) -> None:
    """Write the next version of the directory, for the authorities to sign."""
    from relay.directory import compare, parse_directory, proposals

    now = datetime.now(UTC).replace(microsecond=0)
    before = current(folder, network).directory
    made = document(edited) if edited else proposals.document_of(before)
    if members:
        proposals.put_members(made, _listed(document(members), "members", members))
    for centre in suspend or ():
        proposals.suspend(made, centre)
    for key in revoke_key or ():
        proposals.revoke(made, key, moment(from_) if from_ else now)
    for key in remove_key or ():
        proposals.remove_key(made, key)
    for file in add_key or ():
        proposals.add_keys(made, *_announced(file))
    if renew:
        proposals.renew(made, now, days)
    raw = proposals.next_version(before, made, why, now)
    after = parse_directory(raw)
    write_new(out, raw)
    give(f"{out}  version {after.version}  digest {after.digest}")
    _tell_changes(compare(before, after))
    _tell_notice(before, after, now)
    say(f"Next, each authority: relay directory sign {out} --key PEM --current DIR")


@app.command("sign")
def sign(file: Proposal, key: KeyFile, folder: Current = Path(), new_root: NewRoot = None, network: Network = None) -> None:
    """Add an authority's signature to a proposal, after saying what it changes."""
    from relay.directory import compare, parse_directory, proposals
    from relay.directory import sign as sign_bytes
    from relay.directory.folder import replace
    from relay.directory.roots import parse_root
    from relay.keys import SigningKey

    trusted, found, private = current(folder, network), signed(file), SigningKey.load(key)
    proposal = parse_directory(found.raw)
    proposals.check_place(trusted, proposal)
    names = names_of(private, parse_root(signed(new_root).raw) if new_root else trusted.root)
    _tell_changes(compare(trusted.directory, proposal))
    made = [sign_bytes(found.raw, name, private) for name in names]
    replace(signatures_of(file), proposals.add_signature(found.signatures, made))
    give(f"{signatures_of(file)}  version {proposal.version}  digest {proposal.digest}  signed for {', '.join(names)}")


@app.command("verify")
def verify(
    file: Proposal, folder: Current = Path(), new_root: NewRoot = None, as_json: AsJson = False, network: Network = None
) -> None:
    """Say what a proposal changes, who signed it, who is missing, and whether nodes would take it.

    Ends with 0 when they would, with 65 when not.
    """
    trusted, proposal = current(folder, network), signed(file)
    try:
        report, refusal = _judged(trusted, proposal, _candidate(trusted, proposal, new_root))
    except Misconfigured as error:  # not even a version
        report, refusal = {"taken": False, "code": error.code}, error
    if as_json:
        give_json(report)
    elif "version" in report:
        _tell_report(report)
    if refusal:
        tell(refusal)
        raise Ended(REFUSED)


@app.command("show")
def show(path: Where, as_json: AsJson = False, network: Network = None) -> None:
    """Show the directory in force in a folder, verified, or a file as it stands."""
    directory = read_either(path, network)
    if as_json:
        give_json({"digest": directory.digest, "verified": path.is_dir(), **_dumped(directory)})
        return
    age = directory.age(datetime.now(UTC))
    give(f"version {directory.version}  {age}  digest {directory.digest}")
    give(f"issued {directory.issued_at}  warns {directory.warn_after}  expires {directory.expires_at}")
    if directory.reason:
        give(f"why: {_plain(directory.reason)}")
    for member in directory.members:
        give(f"{member.id:<17}  {member.status:<9}  {member.clearance:<12}  {_plain(member.name)}")
        for key in member.keys:
            revoked = f"  revoked from {key.revoked_from}" if key.revoked_from else ""
            give(f"  {key.id}  {key.use:<10}  {key.valid_from} to {key.valid_until}{revoked}")
    if not path.is_dir():
        say("A file by itself: nobody's signature was looked at.")


@app.command("diff")
def diff(before: Where, after: Where, as_json: AsJson = False, network: Network = None) -> None:
    """Show what changed from one version to another, and whether one authority could sign it."""
    from relay.directory import compare

    found = compare(read_either(before, network), read_either(after, network))
    if as_json:
        give_json(_compared(found))
        return
    for change in found.changes:
        give(f"{'narrows' if change.narrowing else 'widens ':<7}  {change.sentence}")
    say(_needed(found))


@app.command("publish")
def publish(
    file: MaybeProposal = None,
    folder: Current = Path(),
    to: To = None,
    new_root: NewRoot = None,
    network: Network = None,
) -> None:
    """Put a version that enough authorities signed where nodes read it: folders, or all of a network at once."""
    from relay.directory import Paths, advance, write_bundle
    from relay.directory.folder import replace

    trusted = current(folder, network)
    given = _candidate(trusted, signed(file) if file else None, new_root)
    found = advance(trusted, given, datetime.now(UTC))
    if found is trusted:
        say(f"Version {trusted.directory.version} is in force already.")
    places = [place for one in to or [folder] for place in _places(one)]
    for place in places:
        _check_place(place, found)
    for place in places:
        if not Paths.of(place).root.exists():
            replace(Paths.of(place).root, Paths.of(folder).first_root())
        write_bundle(found.bundle, place)
        give(f"{place}  version {found.directory.version}")


def _candidate(trusted: Trusted, proposal: Signed | None, new_root: Path | None) -> Bundle:
    from relay.directory.proposals import candidate

    return candidate(trusted, proposal, signed(new_root) if new_root else None)


def _places(folder: Path) -> list[Path]:
    """Return a folder and, when it is a network's, those of its centres that are still there."""
    if not folder.is_dir():
        raise Refused("no-input", f"{folder} is no folder.")
    return [folder, *sorted(one.parent for one in folder.glob("centres/*/node.toml"))]


def _check_place(place: Path, found: Trusted) -> None:
    """Refuse to put a version where another one is that it can't follow."""
    from relay.directory import Paths, advance, begin, read_bundle

    paths = Paths.of(place)
    if not paths.root.exists() or not (paths.file.exists() or paths.bundle.exists()):
        return
    held = begin(found.network, paths.first_root(), read_bundle(place), ANY_TIME)
    try:
        advance(held, found.bundle, ANY_TIME)
    except Misconfigured as error:
        raise Misconfigured(error.code, f"{place}: {error.detail}") from error


def _judged(trusted: Trusted, proposal: Signed, given: Bundle) -> tuple[dict[str, Any], Misconfigured | None]:
    """Return what is to say about a proposal, and why nodes would not take it."""
    from relay.directory import advance, compare, parse_directory
    from relay.directory.roots import parse_root
    from relay.directory.trust import verified_signers

    newest = parse_root(given.roots[-1].raw) if given.roots else trusted.root
    directory = parse_directory(proposal.raw)
    by = verified_signers(proposal, newest)
    refusal = None
    try:
        advance(trusted, given, datetime.now(UTC)).bundle.pack()
    except Misconfigured as error:
        refusal = error
    report = {
        "version": directory.version,
        "digest": directory.digest,
        "in_force": trusted.directory.version,
        "signed": sorted(by),
        "missing": [one.id for one in newest.authorities if one.id not in by],
        **_compared(compare(trusted.directory, directory)),
        "taken": refusal is None,
        "code": refusal.code if refusal else None,
    }
    return report, refusal


def _tell_report(report: dict[str, Any]) -> None:
    give(f"version {report['version']}  in force {report['in_force']}  digest {report['digest']}")
    for change in report["changes"]:
        give(f"{'narrows' if change['narrowing'] else 'widens':<7}  {change['sentence']}")
    give(f"signed by {', '.join(report['signed']) or 'nobody'}; missing {', '.join(report['missing']) or 'nobody'}")
    give("narrowing: one authority is enough" if report["narrowing"] else "widening: all authorities must sign")
    if report["taken"]:
        give("nodes would take it")


def _compared(found: Comparison) -> dict[str, Any]:
    changes = [{"sentence": one.sentence, "narrowing": one.narrowing} for one in found.changes]
    return {"narrowing": found.narrowing, "changes": changes}


def _tell_changes(found: Comparison) -> None:
    for change in found.changes:
        say(f"  {'narrows' if change.narrowing else 'widens':<7}  {change.sentence}")
    say(_needed(found))


def _needed(found: Comparison) -> str:
    if not found.changes:
        return "Nothing differs that counts."
    return "One authority is enough." if found.narrowing else "All authorities must sign."


def _tell_notice(before: Directory, after: Directory, now: datetime) -> None:
    """Warn about keys that count sooner than the policy has them announced."""
    known = {key.id for member in before.members for key in member.keys}
    for member in after.members:
        for key in member.keys:
            hours = (key.valid_from - now).total_seconds() / 3600
            if key.id not in known and hours < after.policy.key_notice_hours:
                say(f"warning: key {key.id} of {member.id} counts in {max(hours, 0):.0f} h; policy announces keys")
                say(f"         {after.policy.key_notice_hours} h ahead, so that every node has the directory by then.")


def _announced(file: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return the member and the keys in a file that a centre wrote."""
    found = document(file)
    centre = found.get("member")
    if not isinstance(centre, str):
        raise Refused("bad-proposal", f"{file} does not say whose keys it has: it needs `member` and `keys`.")
    return centre, _listed(found, "keys", file)


def _listed(found: dict[str, Any], name: str, file: Path) -> list[dict[str, Any]]:
    listed = found.get(name)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise Refused("bad-proposal", f"{file} has no list `{name}`.")
    return listed


def _dumped(directory: Directory) -> dict[str, Any]:
    from relay.directory.proposals import document_of

    return document_of(directory)


def _plain(text: str) -> str:
    return text if text.isprintable() else ascii(text)
