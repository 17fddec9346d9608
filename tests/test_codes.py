"""The code lists: closed, versioned, and every country in exactly one leaf region."""

import subprocess
import sys
import time

import iso3166
import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from relay import codes

FAMILIES = ("drugs", "medicines", "environment", "cultural-goods")


def test_the_families_of_the_mission_are_crime_types() -> None:
    """The four families of the mission stand in the list, next to what the centres also meet."""
    assert all(codes.is_crime_type(family) for family in FAMILIES)
    assert {"weapons", "tobacco", "persons", "money-laundering", "cyber", "other"} <= set(codes.CRIME_TYPES)


def test_every_crime_type_has_a_parent_and_labels_in_four_languages() -> None:
    """No code hangs in the air, and each is named in English, French, Spanish and Arabic."""
    for code in codes.CRIME_TYPES:
        parent = code.rpartition(".")[0]
        assert not parent or codes.is_crime_type(parent)
        assert all(codes.crime_type_label(code, language) for language in codes.LANGUAGES)
        assert set(codes.CRIME_TYPE_LABELS[code]) == set(codes.LANGUAGES)


def test_a_label_in_another_language_is_english() -> None:
    """A language the list does not have falls back to English instead of failing."""
    assert codes.crime_type_label("drugs.cocaine", "fi") == "Cocaine"
    assert codes.crime_type_label("drugs.cocaine", "es") == "Cocaína"


@pytest.mark.parametrize(
    ("entitled", "actual", "covered"),
    [
        ("*", "drugs.cocaine", True),
        ("drugs", "drugs.cocaine", True),
        ("drugs", "drugs", True),
        ("drugs.cocaine", "drugs.cocaine", True),
        ("drugs.cocaine", "drugs", False),
        ("drugs.cocaine", "drugs.synthetic", False),
        ("drug", "drugs.cocaine", False),
        ("environment", "environment.timber", True),
        ("", "drugs", False),
    ],
)
def test_an_entitlement_covers_what_is_below_it(entitled: str, actual: str, covered: bool) -> None:
    """A wider code covers the narrower ones, never the reverse, and never by a mere common beginning."""
    assert codes.covers_crime_type(entitled, actual) is covered


def test_the_wildcard_is_no_crime_type() -> None:
    """A message can't be about everything: only an entitlement says ``*``."""
    assert not codes.is_crime_type("*")


@pytest.mark.parametrize("country", sorted(iso3166.countries_by_alpha2))
def test_every_iso_country_lies_in_exactly_one_leaf(country: str) -> None:
    """No country of ISO 3166-1 (Kosovo's XK included) is without a leaf region that the world covers."""
    (leaf,) = codes.sub_regions((country,))
    assert codes.is_country(country)
    assert codes.leaves(leaf) == (leaf,)
    assert codes.region_covers(codes.WORLD, leaf)


def test_the_countries_are_those_of_iso_3166() -> None:
    """The list has nothing ISO 3166-1 has not."""
    assert set(codes.COUNTRIES) == set(iso3166.countries_by_alpha2)


@pytest.mark.parametrize(
    ("country", "leaf"),
    [("BE", "155"), ("SG", "035"), ("AR", "005"), ("TW", "030"), ("XK", "039"), ("AQ", "010"), ("US", "021"), ("FR", "155")],
)
def test_a_country_lies_where_it_should(country: str, leaf: str) -> None:
    """Known places, and the special cases: Taiwan, Kosovo, and Antarctica as a leaf of its own."""
    assert codes.sub_regions((country,)) == (leaf,)


def test_sub_regions_are_distinct_and_sorted() -> None:
    """Two countries of one region count once, and the order does not depend on the message."""
    assert codes.sub_regions(("SG", "BE", "FR", "VN")) == ("035", "155")
    assert codes.sub_regions(()) == ()


def test_what_is_no_country_is_an_error() -> None:
    """A code that is no country is never silently left out of the regions."""
    assert not codes.is_country("ZZ")
    with pytest.raises(KeyError):
        codes.sub_regions(("BE", "ZZ"))


@pytest.mark.parametrize(
    ("region", "leaf", "covered"),
    [
        ("001", "155", True),
        ("150", "155", True),
        ("155", "155", True),
        ("142", "155", False),
        ("019", "005", True),
        ("419", "005", True),
        ("003", "005", False),
        ("202", "011", True),
        ("202", "015", False),
        ("155", "150", False),
        ("EU", "155", False),
        ("", "155", False),
    ],
)
def test_a_region_of_any_level_covers_its_leaves(region: str, leaf: str, covered: bool) -> None:
    """Continents, groupings and leaves cover what M49 puts in them; what is no region covers nothing."""
    assert codes.region_covers(region, leaf) is covered


@pytest.mark.parametrize("region", codes.REGIONS)
def test_the_leaves_of_a_region_are_what_it_covers(region: str) -> None:
    """``leaves`` and ``region_covers`` tell one story, for every region."""
    assert codes.is_region(region)
    assert codes.leaves(region) == tuple(leaf for leaf in codes.leaves("001") if codes.region_covers(region, leaf))


def test_every_region_has_a_name_in_cldr() -> None:
    """The region codes are real: CLDR names all but Antarctica's own number."""
    names = Locale("en").territories
    assert {region for region in codes.REGIONS if region not in names} == {"010"}


@given(st.lists(st.sampled_from(codes.COUNTRIES), max_size=20))
def test_the_world_covers_any_countries(countries: list[str]) -> None:
    """Whatever countries a message names, an entitlement to the world reaches all its regions."""
    regions = codes.sub_regions(tuple(countries))
    assert list(regions) == sorted(set(regions))
    assert all(codes.region_covers("001", region) for region in regions)


def test_orders_that_carry_meaning() -> None:
    """Precedences run from the most urgent, classifications from the lowest, TLP from the narrowest."""
    assert codes.PRECEDENCES == ("flash", "immediate", "priority", "routine")
    assert codes.precedence_rank("flash") < codes.precedence_rank("routine")
    assert codes.CLASSIFICATIONS == ("unclassified", "restricted", "confidential", "secret")
    assert codes.TLP == ("RED", "AMBER+STRICT", "AMBER", "GREEN", "CLEAR")
    assert codes.STATUSES == ("actual", "exercise", "test")
    assert codes.HANDLING_CODES == ("H0", "H1", "H2", "H3")


def test_a_clearance_covers_its_level_and_below() -> None:
    """Restricted may see unclassified and restricted, not confidential."""
    covered = [level for level in codes.CLASSIFICATIONS if codes.clearance_covers("restricted", level)]
    assert covered == ["unclassified", "restricted"]


def test_gradings_combine_source_and_information() -> None:
    """The 4x4 gives sixteen gradings."""
    assert len(codes.GRADINGS) == 16
    assert {"A1", "B2", "C3", "X4"} <= set(codes.GRADINGS)


@pytest.mark.parametrize("name", sorted(codes.LISTS))
def test_every_list_has_a_version_and_meanings(name: str) -> None:
    """Each list says what it is, in which version, and what each code means."""
    entry = codes.LISTS[name]
    assert entry.version
    assert entry.about
    assert entry.codes
    assert all(entry.codes.values())


def test_a_list_cannot_be_changed() -> None:
    """The lists are closed at run time too."""
    with pytest.raises(TypeError):
        codes.LISTS["kinds"].codes["rumour"] = "hearsay"  # type: ignore[index]


def test_currencies_are_those_in_use() -> None:
    """The euro and the franc CFA are currencies; the mark of 1999 and a test code are not."""
    assert all(map(codes.is_currency, ("EUR", "USD", "XOF", "SGD", "ARS")))
    assert not any(map(codes.is_currency, ("DEM", "XTS", "eur", "")))


def test_importing_the_lists_imports_nothing_heavy() -> None:
    """Babel and pydantic stay out until something needs them."""
    code = "import sys, relay.codes; print([m for m in ('babel', 'pydantic', 'stdnum') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_regions_of_a_message_cost_about_a_microsecond() -> None:
    """The hot path only looks up; the bound is ten times what is usual, so that a busy machine passes."""
    countries = ("BE", "EC", "PA")
    codes.sub_regions(countries)
    started = time.process_time()
    for _ in range(10_000):
        codes.sub_regions(countries)
    assert (time.process_time() - started) / 10_000 < 10e-6
