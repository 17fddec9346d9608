"""Closed, versioned code lists as data, and small pure functions over them.

``crime_types`` what a message is about, and which entitlement covers it; ``regions`` countries, the M49 regions they
lie in and which region contains which; ``lists`` everything else, from precedences to CITES appendices. All lists are
JSON files beside the modules; nothing here reads the clock, the network or a setting. Importing the package takes
a few milliseconds besides the standard library: what needs Babel imports it on first use.
"""

from relay.codes.crime_types import (
    ALL_CRIME_TYPES,
    CRIME_TYPE_LABELS,
    CRIME_TYPES,
    CRIME_TYPES_VERSION,
    LANGUAGES,
    covers_crime_type,
    crime_family,
    crime_type_label,
    is_crime_type,
)
from relay.codes.lists import (
    CLASSIFICATIONS,
    GRADINGS,
    HANDLING_CODES,
    HS_CHAPTERS,
    KINDS,
    LISTS,
    PRECEDENCES,
    PURPOSES,
    SCHEMA_VERSIONS,
    STATUSES,
    TLP,
    CodeList,
    clearance_covers,
    codes_of,
    currencies,
    is_currency,
    precedence_rank,
)
from relay.codes.regions import (
    COUNTRIES,
    REGIONS,
    REGIONS_VERSION,
    WORLD,
    is_country,
    is_region,
    leaves,
    region_covers,
    sub_regions,
)

__all__ = [
    "ALL_CRIME_TYPES",
    "CLASSIFICATIONS",
    "COUNTRIES",
    "CRIME_TYPES",
    "CRIME_TYPES_VERSION",
    "CRIME_TYPE_LABELS",
    "GRADINGS",
    "HANDLING_CODES",
    "HS_CHAPTERS",
    "KINDS",
    "LANGUAGES",
    "LISTS",
    "PRECEDENCES",
    "PURPOSES",
    "REGIONS",
    "REGIONS_VERSION",
    "SCHEMA_VERSIONS",
    "STATUSES",
    "TLP",
    "WORLD",
    "CodeList",
    "clearance_covers",
    "codes_of",
    "covers_crime_type",
    "crime_family",
    "crime_type_label",
    "currencies",
    "is_country",
    "is_crime_type",
    "is_currency",
    "is_region",
    "leaves",
    "precedence_rank",
    "region_covers",
    "sub_regions",
]
