"""The code lists: closed, versioned, and every country in exactly one leaf region."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import iso3166
import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from relay import codes
from relay.errors import Misconfigured
from tests.spent import spent

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


@pytest.mark.parametrize("language", codes.LANGUAGES)
@pytest.mark.parametrize("name", sorted(codes.LISTS))
def test_no_label_is_missing(name: str, language: str) -> None:
    """Every code of every list has a label of its own in each language, and no label is of a code that is gone."""
    if language == "en":
        assert all(codes.label(name, code) for code in codes.codes_of(name))
        return
    labels = json.loads(Path(codes.__file__).with_name(f"labels.{language}.json").read_bytes())
    assert labels[name].keys() == codes.LISTS[name].codes.keys()
    assert all(codes.label(name, code, language) == text.strip() != "" for code, text in labels[name].items())
    assert all(_is_arabic(text) for text in labels[name].values()) or language != "ar" or name == "media_types"


def _is_arabic(text: str) -> bool:
    return any("\u0600" <= character <= "\u06ff" for character in text)


@pytest.mark.parametrize("language", codes.LANGUAGES)
def test_countries_regions_currencies_and_languages_have_names(language: str) -> None:
    """CLDR names each in every language."""
    for name, known in (("countries", codes.COUNTRIES), ("regions", codes.REGIONS), ("currencies", sorted(codes.currencies()))):
        assert all(codes.label(name, code, language) for code in known)
    assert codes.label("languages", "ar", language)


def test_labels_say_what_people_say() -> None:
    """Known labels; another language is English; what is not in a list is an error."""
    assert codes.label("notice_colours", "yellow", "es") == "persona desaparecida"
    assert codes.label("countries", "BE", "fr") == "Belgique"
    assert codes.label("crime_types", "drugs.cocaine", "ar") == codes.crime_type_label("drugs.cocaine", "ar")
    assert codes.label("statuses", "actual", "fi") == "real"
    assert set(codes.label_lists()) >= {"kinds", "crime_types", "countries", "languages"}
    for name, code in (("statuses", "drill"), ("rumours", "x"), ("countries", "ZZ")):
        with pytest.raises(KeyError):
            codes.label(name, code)


def test_the_clocks_of_requests_are_data() -> None:
    """Eight hours, three days and seven days, by urgency."""
    assert {code: codes.reply_hours(code) for code in codes.codes_of("urgencies")} == {
        "urgent-direct": 8,
        "urgent-indirect": 72,
        "normal": 168,
    }


def test_a_list_is_in_force_between_its_days() -> None:
    """A list without an end holds from its first day on."""
    entry = codes.LISTS["units"]
    assert entry.in_force(entry.valid_from)
    assert not entry.in_force(entry.valid_from - timedelta(days=1))
    ended = replace(entry, valid_until=entry.valid_from)
    assert ended.in_force(entry.valid_from)
    assert not ended.in_force(entry.valid_from + timedelta(days=1))


LIST = {"version": "9", "valid_from": "2027-01-01", "about": "Ours.", "codes": {"a": "first"}}
OWN_LISTS = """
import sys, json
from datetime import date
from pathlib import Path
from relay import codes, messages
folder = Path(sys.argv[1])
example = json.loads(Path(sys.argv[2]).read_bytes())
assert codes.load(folder, on=date(2026, 6, 1)) == ()
assert codes.load(folder) == ("crime_types", "threats", "urgencies")
assert codes.reply_hours("normal") == 120
assert codes.label("threats", "drone", "fr") == "un drone"
assert codes.label("threats", "drone", "ar") == "a drone"
assert codes.known_crime_types() == ("drugs", "drugs.tea")
assert (codes.listing("crime_types").version, str(codes.listing("crime_types").valid_from)) == ("9", "2027-01-01")
messages.rebuild()
example |= {"threat": "drone", "crime_types": ["drugs.tea"]}
print(messages.parse(json.dumps(example).encode()).threat)
update = {name: example[name] for name in ("crime_types", "countries", "tlp", "purpose", "nominal")}
update |= {"kind": "update", "reason": "x", "message": example}
update["references"] = [{"id": "019c2a51-7e00-7a30-9d11-2f6f0f1c8a01", "digest": "0" * 64, "relation": "updates"}]
print(messages.parse(json.dumps(update).encode()).message.threat)
"""


def test_an_operator_replaces_lists_and_the_models_follow(tmp_path: Path) -> None:
    """Codes of an operator's files are taken by every model built anew, also inside an update."""
    clocks = {"urgent-direct": 4, "urgent-indirect": 48, "normal": 120}
    lists = {
        "threats": LIST | {"codes": {"drone": "a drone"}, "labels": {"fr": {"drone": "un drone"}}},
        "urgencies": LIST | {"codes": dict.fromkeys(clocks, "text"), "data": clocks},
        "crime_types": LIST | {"codes": {"drugs": "Drugs", "drugs.tea": "Tea"}},
    }
    for name, entry in lists.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(entry))
    example = Path(__file__).parent.parent / "schemas" / "examples" / "alert.minimal.json"
    command = [sys.executable, "-c", OWN_LISTS, str(tmp_path), str(example)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["drone", "drone"], "")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("threats", "{", "form"),
        ("threats", "[]", "form"),
        ("threats", json.dumps(LIST | {"codes": {}}), "at least one code"),
        ("threats", json.dumps(LIST | {"codes": {"a": 1}}), "texts"),
        ("threats", json.dumps(LIST | {"valid_from": "soon"}), "form"),
        ("threats", json.dumps(LIST | {"labels": {"de": {"a": "x"}}}), "'de'"),
        ("threats", json.dumps(LIST | {"labels": {"fr": {"b": "x"}}}), "b"),
        ("urgencies", json.dumps(LIST), "data"),
        ("urgencies", json.dumps(LIST | {"data": {"a": "soon"}}), "data"),
        ("crime_types", json.dumps(LIST | {"codes": {"drugs.tea": "Tea"}}), "stands below"),
        ("tlp", json.dumps(LIST), "rules of the software"),
        ("rumours", json.dumps(LIST), "no list"),
    ],
)
def test_a_bad_list_of_an_operator_is_refused_and_nothing_replaced(tmp_path: Path, name: str, text: str, why: str) -> None:
    """A file is taken whole or not at all, with one code and a sentence that says why."""
    before = dict(codes.LISTS)
    (tmp_path / "age_bands.json").write_text(json.dumps(LIST))
    (tmp_path / f"{name}.json").write_text(text)
    with pytest.raises(Misconfigured, match=why) as refused:
        codes.load(tmp_path)
    assert refused.value.code == "bad-code-list"
    assert dict(codes.LISTS) == before


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Nothing found because of a wrong path must not look like no lists of one's own."""
    with pytest.raises(Misconfigured, match="elsewhere") as refused:
        codes.load(tmp_path / "elsewhere")
    assert refused.value.code == "bad-code-list"


def test_importing_the_lists_imports_nothing_heavy() -> None:
    """Babel and pydantic stay out until something needs them."""
    code = "import sys, relay.codes; print([m for m in ('babel', 'pydantic', 'stdnum') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_regions_of_a_message_cost_about_a_microsecond() -> None:
    """The hot path only looks up; the bound is ten times what is usual, so that a busy machine passes."""
    countries = ("BE", "EC", "PA")
    codes.sub_regions(countries)

    def look_up() -> None:
        for _ in range(10_000):
            codes.sub_regions(countries)

    assert spent(look_up)[1] / 10_000 < 10e-6
