"""Countries and the M49 regions they lie in.

A message names countries; it is routed by the *leaf* sub-regions they lie in (``BE`` lies in ``155``, Western
Europe), and an entitlement names a region of any level (``150`` is Europe, ``001`` the world). ``regions.json``
beside this file places every ISO 3166-1 country, and Kosovo under its user-assigned ``XK``, in exactly one leaf, so
that no message about a country can miss every route. Where M49 leaves a country out the file says what was decided.
(Babel ships the names of the regions but not which country lies in which, hence a table.)

Lookups are plain dictionary reads of tables built once at import.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

from relay.codes.lists import read_data

WORLD = "001"

_data = read_data("regions.json")
REGIONS_VERSION: str = _data["version"]
REGIONS_VALID_FROM = date.fromisoformat(_data["valid_from"])
_LEAF_OF: dict[str, str] = {country: leaf for leaf, countries in _data["leaves"].items() for country in countries.split()}
_PARTS: dict[str, tuple[str, ...]] = {region: tuple(parts.split()) for region, parts in _data["wider"].items()}
COUNTRIES: tuple[str, ...] = tuple(sorted(_LEAF_OF))


def _leaves(region: str) -> frozenset[str]:
    if region in _PARTS:
        return frozenset().union(*map(_leaves, _PARTS[region]))
    return frozenset({region})


_LEAVES: dict[str, frozenset[str]] = {region: _leaves(region) for region in (*_data["leaves"], *_PARTS)}
REGIONS: tuple[str, ...] = tuple(sorted(_LEAVES))


def is_country(code: str) -> bool:
    """Return whether this is an ISO 3166-1 alpha-2 country code (or ``XK``)."""
    return code in _LEAF_OF


def is_region(code: str) -> bool:
    """Return whether this is the three-digit code of an M49 region of any level."""
    return code in _LEAVES


@lru_cache(maxsize=8192)
def sub_regions(countries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the distinct leaf sub-regions these countries lie in, sorted; ``KeyError`` for what is no country."""
    return tuple(sorted({_LEAF_OF[country] for country in countries}))


def region_covers(region: str, sub_region: str) -> bool:
    """Return whether a region of any level contains a leaf sub-region; a code that is no region covers nothing."""
    return sub_region in _LEAVES.get(region, ())


def leaves(region: str) -> tuple[str, ...]:
    """Return the leaf sub-regions of a region, sorted; a leaf is its own; ``KeyError`` for what is no region."""
    return tuple(sorted(_LEAVES[region]))
