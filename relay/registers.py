"""The register: which version of the directory is in force at a running node, and how the next one comes into force.

New versions come from the node's own files, from a URL and from peers (:mod:`relay.sources`, envelopes of type ``directory``).
Where one came from counts for nothing: its authorities' signatures decide (:mod:`relay.directory`). What is newer and valid is
committed to the store with a leaf of the record; only then does the centre go by it (:meth:`relay.centre.Centre.adopt`), all
parts from one moment on, without a restart. A lower version is never taken, not after a restart either. Other bytes under the
number of the version in force change nothing and are kept as evidence.

Peers pass it on: heartbeats name version and digest, who hears of an older one sends its own (:meth:`Register.offer`), each
peer in growing pauses. A member that a new version suspends is sent that version as the last thing.

While the directory is expired, or no longer counts this centre in, nothing new is taken (:attr:`Register.trouble`); the next
version ends that by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from relay import points
from relay.audit import AuditStep
from relay.centre import Centre
from relay.clock import from_ms, iso, to_ms
from relay.control import Control, content
from relay.directory import Bundle, Directory, Trusted, advance, begin, read_bundle
from relay.errors import Misconfigured, NotReady, Refused, StoreTrouble
from relay.log import Event, Log
from relay.points import Point
from relay.poison import Asking
from relay.seal import Opened
from relay.settings import Settings
from relay.sources import Source, paths, sources
from relay.store import Connection, Store, directories, peers
from relay.store.directories import Kept
from relay.store.peers import Alarm

EXPIRED, SUSPENDED, FORK = "directory-expired", "centre-suspended", "directory-fork"
TICK_SECONDS = 1.0
DAY_MS = 86_400_000
PAUSE_SECONDS = 1.0
WAITING_BUNDLES = 4
KNOWN_BUNDLES = 64


class Register:
    """Keeps the directory in force up to date."""

    def __init__(self, centre: Centre, control: Control, trusted: Trusted) -> None:
        self._centre = centre
        self._control = control
        self._trusted = trusted
        self._taking = asyncio.Lock()
        self._arrived: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue(WAITING_BUNDLES)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._offered = Asking()
        self._told: set[tuple[str, int]] = set()
        self._warned_at = 0
        self._said_expired = False

    @property
    def trouble(self) -> NotReady | None:
        """Why nothing new may be taken, or None."""
        centre, register = self._centre, self._centre.directory
        if centre.expired:
            sentence = (
                f"Directory version {register.version} expired {iso(to_ms(register.expires_at))}: nothing is taken until a newer "
                "one comes. What is under way goes on, and receipts are taken."
            )
            return NotReady(EXPIRED, sentence)
        if not centre.is_member.is_set():
            sentence = (
                f"Directory version {register.version} does not list {centre.id} as an active member: nothing is taken and no "
                "message published until one does."
            )
            return NotReady(SUSPENDED, sentence)
        return None

    async def begin(self) -> None:
        """Before anything runs: keep the version that the node starts with."""
        await self._commit(self._trusted, "start", None)
        self._measure()

    async def run(self) -> None:
        """Take what comes from files, URL and peers, and mind the expiry, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for source in sources(self._centre.settings.directory):
                group.create_task(self._watch(source), name=f"directory {source.name}")
            group.create_task(self._take_arrived(), name="directory peers")
            group.create_task(self._mind(), name="directory expiry")

    def take(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Take a ``directory`` envelope; its body is looked at after the commit. The sender may be a stranger."""
        del connection, now
        return partial(self._arrive, content(opened), sender)

    def offer(self, peer: str, *, unheard: bool = False) -> None:
        """Send a peer the directory in force, unless that was done lately; to one that is ``unheard``, once."""
        version = self._centre.directory.version
        if unheard and (peer, version) in self._told:
            return
        if not unheard and not self._offered.may_ask((peer, version), self._centre.elapsed()):
            return
        self._told = {one for one in self._told if one[1] == version} | {(peer, version)}
        with contextlib.suppress(Refused):  # it has no key that is valid now
            self._control.post(peer, self._control.directory(peer, self._trusted.bundle.pack()))
            self._centre.log.info(Event.DIRECTORY_SENT, peer=peer, version=version)

    def _arrive(self, raw: bytes, sender: str) -> None:
        """Let what a peer sent wait to be looked at; what was looked at before, or is too much at once, is let go."""
        digest = hashlib.sha256(raw).digest()
        if digest in self._known or self._arrived.full():
            return
        self._known[digest] = None
        if len(self._known) > KNOWN_BUNDLES:
            self._known.popitem(last=False)
        self._arrived.put_nowait((raw, sender))

    async def _take_arrived(self) -> None:
        while True:
            raw, sender = await self._arrived.get()
            try:
                await self._consider(await self._centre.work(partial(Bundle.unpack, raw)), "peer", sender)
            except Misconfigured as error:
                self._refused(error, "peer", sender)

    async def _watch(self, source: Source) -> None:
        """Look at a source again and again; what can't be taken may be half written, so it is said the second time."""
        tried = settled = None
        while True:
            state = (await source.stamp(), self._centre.directory.digest)
            if state != settled:
                try:
                    if (bundle := await source.read()) is not None:
                        await self._consider(bundle, source.name)
                    settled = (state[0], self._centre.directory.digest)
                except Misconfigured as error:
                    if state == tried or source.name != "files":
                        settled = state
                        self._refused(error, source.name)
                    tried = state
            await asyncio.sleep(source.pause)

    async def _consider(self, bundle: Bundle, source: str, sender: str | None = None) -> None:
        """Judge a bundle and go by it when it is newer; raise ``Misconfigured`` when it must not be taken."""
        async with self._taking:
            centre = self._centre
            now = from_ms(centre.now())
            try:
                found = await centre.work(partial(advance, self._trusted, bundle, now))
            except Misconfigured as error:
                if error.code == FORK:
                    await self._keep_evidence(bundle, source, sender)
                raise
            if found is self._trusted:
                return
            await self._swap(found, source, sender)

    async def _swap(self, found: Trusted, source: str, sender: str | None) -> None:
        """Commit a newer version, then go by it."""
        centre, before = self._centre, self._trusted.directory
        farewells = self._farewells(before, found)
        await self._commit(found, source, sender)
        for peer, raw in farewells:
            self._control.post(peer, raw)
        self._trusted = found
        centre.adopt(found.directory)
        self._warned_at, self._said_expired = 0, False
        self._measure()
        centre.metrics.directories.labels(source, "taken").inc()
        centre.log.info(
            Event.DIRECTORY_CHANGED, source=source, peer=sender, version=found.directory.version, before=before.version
        )

    def _farewells(self, before: Directory, found: Trusted) -> list[tuple[str, bytes]]:
        """Return the new version, sealed to those whom it suspends or drops, while they can still be sealed to."""
        gone = before.active.keys() - found.directory.active.keys() - {self._centre.id}
        packed, sealed = found.bundle.pack(), list[tuple[str, bytes]]()
        for peer in sorted(gone):
            with contextlib.suppress(Refused):
                sealed.append((peer, self._control.directory(peer, packed)))
        return sealed

    async def _commit(self, found: Trusted, source: str, sender: str | None) -> None:
        """Write a version, and the leaf that says it is in force, in one transaction; try until the store takes it."""
        centre, register, now = self._centre, found.directory, self._centre.now()
        kept = Kept(register.version, register.digest, found.bundle.pack(), source, now)

        def take(connection: Connection) -> None:
            if not directories.take(connection, kept):
                return
            said = f"version {register.version} {register.digest}"
            leaf = centre.audit.leaf(AuditStep.DIRECTORY_CHANGED, now, peer=sender, code=source, why=said)
            centre.audit.append(connection, [leaf])

        while True:
            try:
                points.reach(Point.DIRECTORY_COMMIT_BEFORE)
                await centre.store.write(take)
                points.reach(Point.DIRECTORY_COMMIT_AFTER)
            except StoreTrouble as trouble:
                centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def _keep_evidence(self, bundle: Bundle, source: str, sender: str | None) -> None:
        """Keep what contradicts the version in force, and say so; a bounded number of such, each once."""
        centre, now = self._centre, self._centre.now()
        newest = bundle.versions[-1].raw
        found = Kept(self._trusted.directory.version, hashlib.sha256(newest).hexdigest(), bundle.pack(), source, now)

        def keep(connection: Connection) -> bool:
            if not directories.contradict(connection, found):
                return False
            if sender is not None:
                peers.raise_alarm(connection, sender, Alarm(FORK, now))
            said = f"version {found.version} {found.digest}"
            leaf = centre.audit.leaf(AuditStep.DIRECTORY_CONTRADICTED, now, peer=sender, code=source, why=said)
            centre.audit.append(connection, [leaf])
            return True

        with contextlib.suppress(StoreTrouble):  # it comes again
            points.reach(Point.CONTRADICTION_COMMIT_BEFORE)
            await centre.store.write(keep)
            points.reach(Point.CONTRADICTION_COMMIT_AFTER)

    def _refused(self, error: Misconfigured, source: str, sender: str | None = None) -> None:
        self._centre.metrics.directories.labels(source, error.code).inc()
        say = self._centre.log.error if error.code == FORK else self._centre.log.warning
        say(Event.DIRECTORY_REFUSED, source=source, peer=sender, code=error.code, detail=error.detail)

    async def _mind(self) -> None:
        """Measure how long the directory still holds; warn once a day when it should be renewed, and once when it is over."""
        while True:
            self._measure()
            register, now = self._centre.directory, self._centre.now()
            ends = {"version": register.version, "expires_at": iso(to_ms(register.expires_at))}
            if self._centre.expired and not self._said_expired:
                self._said_expired = True
                self._centre.log.error(Event.DIRECTORY_EXPIRED, code=EXPIRED, **ends)
            if now >= to_ms(register.warn_after) and now - self._warned_at >= DAY_MS:
                self._warned_at = now
                self._centre.log.warning(Event.DIRECTORY_WARNING, **ends)
            await asyncio.sleep(TICK_SECONDS)

    def _measure(self) -> None:
        metrics, register = self._centre.metrics, self._centre.directory
        metrics.directory_version.set(register.version)
        metrics.directory_warning.set(register.warn_after.timestamp())
        metrics.directory_expiry.set(register.expires_at.timestamp())
        metrics.members.set(len(register.active))


async def open_register(settings: Settings, store: Store, now: int, log: Log) -> Trusted:
    """Return the newest valid directory of the files and the store; files that may not be taken are named in the log.

    Raises ``Misconfigured`` with what is wrong with the files when the store has no version that is valid now.
    """
    where, moment = paths(settings.directory), from_ms(now)
    kept = await store.read(directories.newest)
    held = _stored(settings, kept, now) if kept is not None else None
    try:
        if held is not None:
            return advance(held, read_bundle(where), moment)
        version, digest = (kept.version, kept.digest) if kept is not None else (0, None)
        return begin(settings.network, where.first_root(), read_bundle(where), moment, held=version, held_digest=digest)
    except Misconfigured as error:
        if held is None:
            raise
        log.warning(Event.DIRECTORY_REFUSED, source="files", code=error.code, detail=error.detail, version=held.directory.version)
        return held


def _stored(settings: Settings, kept: Kept, now: int) -> Trusted | None:
    """Return what the store's version amounts to now, or None when it is valid no more."""
    try:
        first = paths(settings.directory).first_root()
        return begin(settings.network, first, Bundle.unpack(kept.bundle), from_ms(now))
    except Misconfigured:
        return None
