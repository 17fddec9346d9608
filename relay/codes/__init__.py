"""Closed, versioned code lists as data, and small pure functions over them.

``crime_types`` what a message is about, and which entitlement covers it; ``regions`` countries, the M49 regions they
lie in and which region contains which; ``lists`` everything else, from precedences to CITES appendices; ``labels``
what people call the codes in four languages; ``listings`` all of it as a person asks for it; ``replaced`` takes an
operator's versions of the lists. All lists are JSON files beside the modules; nothing here reads the clock, the
network or a setting. Importing the package takes a few milliseconds besides the standard library: what needs Babel
imports it on first use.
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
    crime_types_version,
    is_crime_type,
    known_crime_types,
)
from relay.codes.labels import label, label_lists
from relay.codes.listings import Listing, listing, listings
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
    reply_hours,
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
from relay.codes.replaced import load

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
    "Listing",
    "clearance_covers",
    "codes_of",
    "covers_crime_type",
    "crime_family",
    "crime_type_label",
    "crime_types_version",
    "currencies",
    "is_country",
    "is_crime_type",
    "is_currency",
    "is_region",
    "known_crime_types",
    "label",
    "label_lists",
    "leaves",
    "listing",
    "listings",
    "load",
    "precedence_rank",
    "region_covers",
    "reply_hours",
    "sub_regions",
]
