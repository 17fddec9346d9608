"""The console's three languages: which one a reader wants, and the texts of each.

Texts stand in English where they are used and in ``locale/<language>/<page>.po`` in the others (gettext), one file a page, read
when they are first needed and put together. Who chose a language by hand has it in a cookie; otherwise ``Accept-Language``
decides. A text that is missing is shown in English, and a test fails.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from io import BytesIO

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from starlette.requests import Request

from relay.web.language import preferred

LANGUAGES = {"en": "English", "fr": "Français", "es": "Español"}
"""The console's languages, each in its own words."""
COOKIE = "relay-language"


def text(words: str) -> str:
    """Mark words as to be translated where they are shown."""
    return words


def wanted(request: Request) -> str:
    """Return the language in which a request is answered."""
    chosen = request.cookies.get(COOKIE)
    return chosen if chosen in LANGUAGES else preferred(request.headers.get("accept-language", ""), tuple(LANGUAGES))


@cache
def translations(language: str) -> NullTranslations:
    """Return the texts of a language."""
    if language == "en":
        return NullTranslations()
    whole = Catalog(locale=language)
    for file in files(language):
        with file.open("rb") as opened:
            for message in read_po(opened, locale=language):
                if message.id and message.string and not message.fuzzy:
                    whole[message.id] = message
    return _compiled(whole)


def files(language: str) -> list[Traversable]:
    """Return the files of a language's texts."""
    folder = resources.files("relay.console").joinpath("locale", language)
    return sorted((one for one in folder.iterdir() if one.name.endswith(".po")), key=lambda one: one.name)


def translated(language: str, words: str) -> tuple[str, str]:
    """Return words in a language, or as they are when they are not there in it; and the language that they are in."""
    found = translations(language).gettext(words)
    return (found, language) if found != words else (words, "en")


def _compiled(catalog: Catalog) -> Translations:
    packed = BytesIO()
    write_mo(packed, catalog)
    packed.seek(0)
    return Translations(packed)
