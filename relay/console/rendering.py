"""Pages from templates: whatever a template is given is escaped, and times, ages and tables look alike everywhere.

There is one environment of Jinja2 per language; :func:`prepare` makes them all, so that no page keeps the node from its messages
for the time that takes. The macros of ``parts.html`` are the global ``parts``. What they need of the moment (the session's form
tokens, the centre's time zone, the time) is in a context variable while a template is rendered, which happens without a pause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote, urlencode

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket

from relay import codes
from relay.clock import from_ms, iso
from relay.console import files
from relay.console.languages import LANGUAGES, translated, translations
from relay.console.session import Session
from relay.views.times import local

LIVE = "live"
"""The block of a template that is rendered again while its page is open."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What macros need: who sees the page, at what time, and the centre's time zone."""

    session: Session | None
    now: int
    zone: str | None


_moment: ContextVar[Moment] = ContextVar("moment")


@contextmanager
def at(moment: Moment) -> Iterator[None]:
    """Let what is rendered meanwhile know who sees it, and when."""
    token = _moment.set(moment)
    try:
        yield
    finally:
        _moment.reset(token)


class _Compiled(BytecodeCache):
    """What a template was compiled to, for all languages: it is the same code."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what is known of a template."""
        if (known := self._known.get(bucket.key)) is not None:
            bucket.bytecode_from_string(known)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what a template was compiled to."""
        self._known[bucket.key] = bucket.bytecode_to_string()


_compiled = _Compiled()


def prepare() -> None:
    """Compile every template for every language: some tenths of a second, for a thread."""
    for language in LANGUAGES:
        made = environment(language)
        for name in made.list_templates(extensions=["html"]):
            made.get_template(name)


@cache
def environment(language: str) -> Environment:
    """Return the environment of a language."""
    made = Environment(
        loader=PackageLoader("relay.console"),
        autoescape=True,
        undefined=StrictUndefined,
        bytecode_cache=_compiled,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    made.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    made.globals.update(
        language=language,
        languages=LANGUAGES,
        static=files.address,
        token=_token,
        iso=iso,
        clock=_clock,
        local_time=_local,
        points=points,
        with_query=with_query,
        told=lambda words: translated(language, words),
        decimal=lambda number, digits=1: _decimal(language, number, digits),
        label=lambda name, code: _label(language, name, code),
    )
    made.filters["path"] = lambda value: quote(str(value), safe="")
    made.globals["parts"] = made.get_template("parts.html").module
    return made


def page(language: str, template: str, values: Mapping[str, object], moment: Moment) -> str:
    """Return a whole page."""
    with at(moment):
        return environment(language).get_template(template).render(values)


def block(language: str, template: str, name: str, values: Mapping[str, object], moment: Moment) -> str:
    """Return one block of a template; what stands outside of it is not run."""
    found = environment(language).get_template(template)
    with at(moment):
        return "".join(found.blocks[name](found.new_context(dict(values))))


def points(values: Sequence[float], width: int, height: int) -> str:
    """Return the points of a line through some values, the newest at the right, 0 at the bottom, as SVG has them."""
    top = max([*values, 1])
    step = width / max(len(values) - 1, 1)
    return " ".join(f"{index * step:.1f},{height - value / top * height:.1f}" for index, value in enumerate(values))


def with_query(address: str, **values: object) -> str:
    """Return an address with a query of those values that are not None or empty."""
    given = {name: str(value) for name, value in values.items() if value not in {None, ""}}
    return f"{address}?{urlencode(given)}" if given else address


def _token(address: str) -> str:
    session = _moment.get().session
    return session.token(address) if session is not None else ""


def _clock(ms: int) -> str:
    """Return a moment in UTC: the time of today, else with its day."""
    moment, today = from_ms(ms), from_ms(_moment.get().now).date()
    return f"{moment:%H:%M:%S}Z" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _local(ms: int) -> str | None:
    """Return a moment as the clocks at the centre's seat show it, None where its time zone is not known."""
    zone = _moment.get().zone
    shown = local(ms, zone) if zone else None
    return f"{shown:%Y-%m-%d %H:%M:%S} {zone} ({shown:%z})" if shown else None


def _decimal(language: str, number: float, digits: int) -> str:
    from babel.numbers import format_decimal  # noqa: PLC0415 - heavy; the pages of a quiet node need none

    return str(format_decimal(round(number, digits), locale=language))


def _label(language: str, name: str, code: str) -> str:
    """Return what people call a code of a list; of one that is not known here, the code."""
    try:
        return codes.label(name, code, language)
    except KeyError:
        return code
