"""Who may get a message: the rule against a slow model of it, and each reason for a refusal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import codes, messages, topology
from relay.directory import Contact, Directory, Entitlement, Member
from relay.errors import Problem, Refused
from relay.policy import Admission, Explained, Judge, Marks, Withheld, marks, release_rule
from tests.make_vectors import END, NOW
from tests.test_messages import EXAMPLES

CENTRES = ("AAA", "BBB", "CCC", "DD-EE")
ALL = Entitlement(crime_types=("*",), regions=("001",), nominal=True)
MARKS = Marks(
    kind="alert",
    crime_types=("drugs.cocaine",),
    regions=("155",),
    nominal=False,
    classification="unclassified",
    to=None,
    exclude=(),
    reads=(("alert", "1.0"),),
)
READS = {"alert": ("1.0",), "seizure": ("1.0", "1.1"), "update": ("1.0",), "cancel": ("1.0",)}


def member(centre: str, **changes: Any) -> Member:
    """Return a centre that may say and hear everything, but for the changes."""
    return Member(
        **{
            "id": centre,
            "name": centre,
            "organisation": "test",
            "seat": "nowhere",
            "time_zone": "UTC",
            "contact": Contact(name="Duty officer", telephone="+00 0 000 00 00", email="duty@centre.example"),
            "clearance": "secret",
            "keys": (),
            "publish": (ALL,),
            "subscribe": (ALL,),
            "reads": READS,
        }
        | changes
    )


def directory(*members: Member) -> Directory:
    """Return a directory of these members."""
    return Directory(
        network="0" * 64,
        version=1,
        previous=None,
        issued_at=NOW,
        warn_after=NOW + timedelta(days=1),
        expires_at=END,
        members=members,
    )


def network(**changes: dict[str, Any]) -> Directory:
    """Return the four centres, with the changes by id."""
    return directory(*(member(centre, **changes.get(centre.replace("-", "_"), {})) for centre in CENTRES))


def admit(register: Directory, **changes: Any) -> Admission:
    """Ask the policy of AAA about a message."""
    return Judge(register, "AAA").admit(MARKS._replace(**changes))


def problems(register: Directory, **changes: Any) -> list[tuple[str, str]]:
    """Return place and code of everything that keeps AAA from sending a message."""
    with pytest.raises(Refused) as caught:
        admit(register, **changes)
    return [(problem.pointer, problem.code) for problem in caught.value.problems]


def verdict(register: Directory, me: str, **changes: Any) -> str | None:
    """Return the code with which a recipient refuses a message of AAA, or None."""
    rejected = Judge(register, me).verdict("AAA", MARKS._replace(**changes))
    return rejected.code if rejected else None


def test_everyone_entitled_gets_a_message_that_names_nobody() -> None:
    """All but the sender, by crime type and region."""
    assert admit(network()) == Admission(("BBB", "CCC", "DD-EE"), intel=True)


def test_a_message_that_names_its_recipients_goes_to_them_addressed() -> None:
    """Exactly those named, whoever else is entitled."""
    assert admit(network(), to=("CCC",)) == Admission(("CCC",), intel=False)
    assert admit(network(), to=("DD-EE", "BBB")) == Admission(("BBB", "DD-EE"), intel=False)


def test_an_excluded_centre_gets_nothing() -> None:
    """Excluded by its id, it is left out, and the message goes addressed since the bindings would reach it."""
    assert admit(network(), exclude=("CCC",)) == Admission(("BBB", "DD-EE"), intel=False)


def test_an_excluded_country_excludes_its_centres() -> None:
    """Every centre of the country is left out; an international organisation has no country."""
    register = network(BBB={"country": "BE"}, DD_EE={"country": "BE"}, CCC={"country": "FR"})
    assert admit(register, exclude=("BE",)).recipients == ("CCC",)


def test_a_country_that_is_spelled_like_a_centre_excludes_no_other() -> None:
    """An exclusion is an id or a country, whole: a part of either excludes nobody."""
    assert admit(network(DD_EE={"country": "FR"}), exclude=("DD", "EE", "F")).recipients == ("BBB", "CCC", "DD-EE")


def test_a_suspended_centre_gets_nothing() -> None:
    """It is no active member, named or not."""
    register = network(BBB={"status": "suspended"})
    assert admit(register).recipients == ("CCC", "DD-EE")
    assert problems(register, to=("BBB",)) == [("/to/0", "unknown-recipient")]


@pytest.mark.parametrize("classification", codes.CLASSIFICATIONS)
def test_a_clearance_below_the_classification_gets_nothing(classification: str) -> None:
    """A centre receives up to its own level."""
    register = network(BBB={"clearance": "restricted"}, CCC={"clearance": "unclassified"})
    expected = {"unclassified": ("BBB", "CCC", "DD-EE"), "restricted": ("BBB", "DD-EE")}
    assert admit(register, classification=classification).recipients == expected.get(classification, ("DD-EE",))


def test_personal_data_need_an_entitlement_that_says_so() -> None:
    """An entitlement covers messages without personal data unless it says otherwise."""
    plain = ALL.model_copy(update={"nominal": False})
    register = network(BBB={"subscribe": (plain,)}, CCC={"subscribe": (plain, ALL)})
    assert admit(register, nominal=True) == Admission(("CCC", "DD-EE"), intel=False)
    assert problems(network(AAA={"publish": (plain,)}), nominal=True) == [("/crime_types", "sender-not-entitled")]


def test_every_crime_type_must_be_covered_and_one_region_is_enough() -> None:
    """Half of a message's crime types is not enough to get it; one of its places is."""
    drugs = Entitlement(crime_types=("drugs",), regions=("150",))
    both = (drugs, Entitlement(crime_types=("medicines",), regions=("150",)))
    register = network(BBB={"subscribe": (drugs,)}, CCC={"subscribe": both}, DD_EE={"subscribe": ()})
    marked = {"crime_types": ("drugs.cocaine", "medicines"), "regions": ("035", "155")}
    assert admit(register, **marked).recipients == ("CCC",)
    assert problems(register, **marked | {"regions": ("035",)}) == [("", "no-recipients")]


def test_a_kind_that_is_not_covered_goes_to_nobody() -> None:
    """Entitlements may name kinds."""
    seizures = ALL.model_copy(update={"kinds": ("seizure",)})
    register = network(BBB={"subscribe": (seizures,)})
    assert admit(register).recipients == ("CCC", "DD-EE")
    assert admit(register, kind="seizure").recipients == ("BBB", "CCC", "DD-EE")


def test_a_message_that_would_reach_nobody_is_refused() -> None:
    """An empty set of recipients is an error, never a silent success."""
    assert problems(directory(member("AAA"))) == [("", "no-recipients")]
    assert problems(network(), exclude=("BBB", "CCC", "DD-EE")) == [("", "no-recipients")]


def test_every_reason_is_told_at_once() -> None:
    """All recipients that can't be, and the sender's own lack, stand in one answer."""
    drugs = Entitlement(crime_types=("medicines",), regions=("001",))
    register = network(AAA={"publish": (drugs,)}, BBB={"subscribe": (drugs,)}, CCC={"clearance": "unclassified"})
    assert problems(register, to=("ZZZ", "AAA", "BBB", "CCC", "DD-EE"), exclude=("DD-EE",), classification="secret") == [
        ("/crime_types", "sender-not-entitled"),
        ("/to/0", "unknown-recipient"),
        ("/to/1", "unknown-recipient"),
        ("/to/2", "recipient-not-entitled"),
        ("/to/3", "recipient-not-entitled"),
        ("/to/4", "recipient-not-entitled"),
    ]


def test_a_centre_that_is_no_member_may_say_nothing() -> None:
    """Suspended meanwhile, it is refused at home."""
    assert problems(network(AAA={"status": "suspended"})) == [("/crime_types", "sender-not-entitled")]


def test_an_origin_is_the_centres_own() -> None:
    """A message may name its origin, and then no other."""
    judge = Judge(network(), "AAA")
    judge.check_origin(None)
    judge.check_origin("AAA")
    with pytest.raises(Refused) as caught:
        judge.check_origin("BBB")
    assert caught.value.code == "other-origin"


def test_a_recipient_judges_again() -> None:
    """What arrived is judged by the recipient's own directory: sender, itself, and whether it was meant."""
    assert verdict(network(), "BBB") is None
    assert verdict(network(AAA={"publish": ()}), "BBB") == "sender-not-entitled"
    assert verdict(network(AAA={"status": "suspended"}), "BBB") == "sender-not-entitled"
    assert verdict(network(BBB={"subscribe": ()}), "BBB") == "recipient-not-entitled"
    assert verdict(network(BBB={"clearance": "restricted"}), "BBB", classification="secret") == "recipient-not-entitled"
    assert verdict(network(), "BBB", exclude=("BBB",)) == "recipient-not-entitled"
    assert verdict(network(BBB={"country": "BE"}), "BBB", exclude=("BE",)) == "recipient-not-entitled"
    assert verdict(network(), "BBB", to=("CCC",)) == "recipient-not-named"
    assert verdict(network(), "BBB", to=("BBB",)) is None
    assert verdict(directory(member("AAA")), "BBB") == "recipient-not-entitled"


PICKED = ("*", "drugs", "drugs.cocaine", "medicines", "environment", "environment.timber")
REGIONS = ("001", "150", "155", "142", "035", "019", "005")
LEAVES = ("155", "154", "035", "030", "005")
entitlements = st.builds(
    Entitlement,
    crime_types=st.lists(st.sampled_from(PICKED), min_size=1, max_size=2).map(tuple),
    regions=st.lists(st.sampled_from(REGIONS), min_size=1, max_size=2).map(tuple),
    kinds=st.sampled_from((("*",), ("alert",), ("seizure",))),
    nominal=st.booleans(),
)
members = st.tuples(
    *(
        st.fixed_dictionaries(
            {
                "publish": st.lists(entitlements, max_size=2).map(tuple) if centre == "AAA" else st.just((ALL,)),
                "subscribe": st.lists(entitlements, max_size=3).map(tuple),
                "clearance": st.sampled_from(codes.CLASSIFICATIONS),
                "country": st.sampled_from((None, "BE", "FR")),
                "status": st.sampled_from(("active", "active", "active", "suspended")),
                "reads": st.sampled_from((READS, READS, {"alert": ("1.0",)}, {})),
            }
        ).map(lambda changes, centre=centre: member(centre, **changes))
        for centre in CENTRES
    )
).map(lambda made: directory(*made))
asked_about = st.builds(
    Marks,
    kind=st.sampled_from(("alert", "seizure")),
    crime_types=st.lists(st.sampled_from(PICKED[1:]), min_size=1, max_size=2, unique=True).map(tuple),
    regions=st.lists(st.sampled_from(LEAVES), min_size=1, max_size=2, unique=True).map(tuple),
    nominal=st.booleans(),
    classification=st.sampled_from(codes.CLASSIFICATIONS),
    to=st.none() | st.lists(st.sampled_from((*CENTRES, "ZZZ")), min_size=1, max_size=3, unique=True).map(tuple),
    exclude=st.lists(st.sampled_from((*CENTRES, "BE", "FR")), max_size=2, unique=True).map(tuple),
    reads=st.sampled_from(((("alert", "1.0"),), (("seizure", "1.1"),), (("update", "1.0"), ("seizure", "1.0")))),
)
CONTAINS = {  # written down, not asked of the code under test
    "001": set(LEAVES),
    "150": {"155", "154"},
    "155": {"155"},
    "142": {"035", "030"},
    "035": {"035"},
    "019": {"005"},
    "005": {"005"},
}


def is_covered(held: tuple[Entitlement, ...], asked: Marks) -> bool:
    """Say slowly whether entitlements cover a message."""
    for crime_type in asked.crime_types:
        found = False
        for one in held:
            fits = "*" in one.crime_types or crime_type in one.crime_types or crime_type.split(".")[0] in one.crime_types
            reaches = any(set(asked.regions) & CONTAINS[region] for region in one.regions)
            speaks = one.kinds == ("*",) or asked.kind in one.kinds
            found = found or (fits and reaches and speaks and (one.nominal or not asked.nominal))
        if not found:
            return False
    return True


def can_read(one: Member, asked: Marks) -> bool:
    """Say slowly whether a centre reads every version that a message is written in."""
    return all(version in one.reads.get(kind, ()) for kind, version in asked.reads)


def may_get(one: Member, asked: Marks) -> bool:
    """Say slowly whether a centre may get a message, were it to read its version."""
    levels = ["unclassified", "restricted", "confidential", "secret"]
    cleared = levels.index(one.clearance) >= levels.index(asked.classification)
    excluded = one.id in asked.exclude or (one.country or "none") in asked.exclude
    return one.status == "active" and cleared and not excluded and is_covered(one.subscribe, asked)


@settings(max_examples=400, deadline=None)
@given(members, asked_about)
def test_policy_is_the_slow_model(register: Directory, asked: Marks) -> None:
    """For any network and message the recipients are exactly those the rule's plain wording gives, and each takes it."""
    by_id = {one.id: one for one in register.members}
    may_say = by_id["AAA"].status == "active" and is_covered(by_id["AAA"].publish, asked)
    may = {one.id for one in register.members if one.id != "AAA" and may_get(one, asked)}
    entitled = {centre for centre in may if can_read(by_id[centre], asked)}
    expected = entitled if asked.to is None else set(asked.to)
    try:
        admission = Judge(register, "AAA").admit(asked)
    except Refused:
        assert not may_say or not expected or not expected <= entitled
        return
    assert may_say
    assert set(admission.recipients) == expected <= entitled
    assert admission.recipients == tuple(sorted(expected))
    left_out = may - entitled if asked.to is None else set()
    assert {one.centre for one in admission.withheld} == left_out
    for centre in CENTRES[1:]:
        rejected = Judge(register, centre).verdict("AAA", asked)
        assert (rejected is None) == (centre in expected | left_out)  # what arrives anyhow is judged without its version


@settings(max_examples=200, deadline=None)
@given(members, asked_about)
def test_the_intelligence_route_reaches_exactly_the_recipients(register: Directory, asked: Marks) -> None:
    """By crime type and region a message goes only when the bindings reach its recipients and nobody else but its sender."""
    try:
        admission = Judge(register, "AAA").admit(asked)
    except Refused:
        return
    reached = topology.bound(register, asked.regions, asked.crime_types) - {"AAA"}
    assert admission.intel == (asked.to is None and reached == set(admission.recipients))


def test_decisions_are_remembered_per_marks_and_directory() -> None:
    """The same marks are judged once; another directory judges anew."""
    judge = Judge(network(), "AAA")
    assert judge.admit(MARKS) is judge.admit(Marks(*MARKS))
    assert judge.admit.cache_info().hits == 1
    assert Judge(network(BBB={"subscribe": ()}), "AAA").admit(MARKS).recipients == ("CCC", "DD-EE")


def test_an_update_is_of_the_kind_inside_and_needs_both_read() -> None:
    """An entitlement for seizures covers their updates; who reads it must read the update and the seizure inside."""
    update = messages.parse((EXAMPLES / "update.full.json").read_bytes())
    marked = marks(update)
    assert isinstance(update, messages.Update)
    assert marked.kind == update.message.kind
    assert marked.reads == (("update", "1.0"), (marked.kind, "1.0"))
    seizure = marks(messages.parse((EXAMPLES / "seizure.minimal.json").read_bytes()))
    assert (seizure.kind, seizure.reads) == ("seizure", (("seizure", "1.0"),))


def test_a_centre_that_can_not_read_the_version_is_left_out_of_a_broadcast_and_the_sender_told() -> None:
    """The others get it, addressed since the bindings would reach the one left out."""
    reads = {"seizure": ("1.0",)}
    admission = admit(network(BBB={"reads": reads}), kind="seizure", reads=(("seizure", "1.1"),))
    reason = "It can't read version 1.1 of seizure (it reads 1.0)."
    assert admission == Admission(("CCC", "DD-EE"), intel=False, withheld=(Withheld("BBB", "unreadable-version", reason),))


def test_a_named_centre_that_can_not_read_the_version_is_a_refusal() -> None:
    """Its place and what it reads are told; an update needs the update and what is inside."""
    register = network(BBB={"reads": {"alert": ("1.0",)}})
    with pytest.raises(Refused, match=r"version 1.0 of update \(it reads none\)") as caught:
        admit(register, to=("CCC", "BBB"), reads=(("update", "1.0"), ("alert", "1.0")))
    assert [(one.pointer, one.code) for one in caught.value.problems] == [("/to/1", "unreadable-version")]


def test_a_version_that_nobody_reads_reaches_nobody() -> None:
    """It is refused, and says that the version is why."""
    with pytest.raises(Refused, match="can read it") as caught:
        admit(network(), reads=(("alert", "1.9"),))
    assert caught.value.code == "no-recipients"


def test_a_recall_is_taken_from_every_member_whatever_the_entitlements() -> None:
    """Who lost an entitlement may hold the message still; who is no active member is not believed."""
    nothing: dict[str, Any] = {"publish": (), "subscribe": (), "clearance": "unclassified", "reads": {}}
    recall: dict[str, Any] = {"kind": "cancel", "reads": (("cancel", "1.0"),), "classification": "secret"}
    assert verdict(network(AAA=nothing, BBB=nothing), "BBB", **recall) is None
    assert verdict(network(), "BBB", **recall, exclude=("BBB",)) is None
    assert verdict(network(AAA={"status": "suspended"}), "BBB", **recall) == "sender-not-entitled"
    assert verdict(directory(member("BBB")), "BBB", **recall) == "sender-not-entitled"


def test_whom_a_recall_can_reach() -> None:
    """Active members and the others apart, both sorted, never the centre itself."""
    judge = Judge(network(CCC={"status": "suspended"}, BBB={"subscribe": ()}), "AAA")
    assert judge.reachable(["ZZZ", "DD-EE", "CCC", "AAA", "BBB", "BBB"]) == (("BBB", "DD-EE"), ("CCC", "ZZZ"))
    assert judge.reachable([]) == ((), ())


@pytest.mark.parametrize(
    ("tlp", "handling", "rule"),
    [
        ("RED", "H0", "forbidden"),
        ("AMBER+STRICT", "H0", "forbidden"),
        ("AMBER", "H0", "forbidden"),
        ("AMBER", "H2", "forbidden"),
        ("GREEN", "H2", "permission"),
        ("CLEAR", "H2", "permission"),
        ("GREEN", "H0", "free"),
        ("CLEAR", "H1", "free"),
        ("CLEAR", "H3", "free"),
        ("PURPLE", "H0", "forbidden"),
    ],
)
def test_what_may_be_released_onward(tlp: str, handling: str, rule: str) -> None:
    """Down to AMBER a message stays where it is, H2 asks its originator, and a mark nobody knows forbids."""
    assert release_rule(tlp, handling) == rule


def test_every_tlp_mark_and_handling_code_has_a_rule_of_release() -> None:
    """Only GREEN and CLEAR leave a centre, and H2 never without asking."""
    free = {(tlp, code) for tlp in codes.TLP for code in codes.HANDLING_CODES if release_rule(tlp, code) == "free"}
    assert {tlp for tlp, _ in free} == {"GREEN", "CLEAR"}
    assert {code for _, code in free} == set(codes.HANDLING_CODES) - {"H2"}


EUROPE = Entitlement(crime_types=("drugs",), regions=("150",), kinds=("alert",))


@pytest.mark.parametrize(
    ("held", "marked", "rule", "said"),
    [
        ({}, {}, "entitled", "It is entitled to drugs.cocaine by * in 001."),
        ({"subscribe": (EUROPE,)}, {}, "entitled", "It is entitled to drugs.cocaine by drugs in 150 of the kinds alert."),
        ({}, {"to": ("BBB",)}, "named", "The message names it, and it is entitled to drugs.cocaine by * in 001."),
        ({}, {"to": ("CCC",)}, "not-named", "The message names its recipients, and it is none of them."),
        ({}, {"exclude": ("BBB",)}, "excluded", "The message excludes it."),
        ({"country": "BE"}, {"exclude": ("BE",)}, "excluded", "The message excludes its country, BE."),
        (
            {"clearance": "restricted"},
            {"classification": "secret"},
            "clearance",
            "Its clearance, restricted, is below secret.",
        ),
        (
            {"subscribe": (EUROPE,)},
            {"crime_types": ("drugs", "weapons")},
            "not-entitled",
            "None of its entitlements covers the crime type weapons.",
        ),
        ({"subscribe": ()}, {}, "not-entitled", "None of its entitlements covers the crime type drugs.cocaine."),
        (
            {"subscribe": (EUROPE,)},
            {"regions": ("035", "030")},
            "not-entitled",
            "Its entitlements to drugs.cocaine are for the regions 150, not for 035, 030.",
        ),
        (
            {"subscribe": (EUROPE,)},
            {"kind": "notice", "reads": (("alert", "1.0"),)},
            "not-entitled",
            "Its entitlements to drugs.cocaine in these regions are for the kinds alert, not for notice.",
        ),
        (
            {"subscribe": (EUROPE,)},
            {"nominal": True},
            "nominal",
            "Its entitlement to drugs in 150 of the kinds alert does not cover personal data.",
        ),
        (
            {"reads": {}},
            {},
            "unreadable-version",
            "It can't read version 1.0 of alert (it reads none).",
        ),
        ({"status": "suspended"}, {}, "suspended", "It is suspended."),
        (
            {"subscribe": ()},
            {"kind": "cancel"},
            "recall",
            "A recall reaches it if it ever held the message, whatever it is entitled to now.",
        ),
    ],
)
def test_why_a_centre_gets_a_message_or_does_not(held: dict[str, Any], marked: dict[str, Any], rule: str, said: str) -> None:
    """The rule that decided in one stable word, and the entitlement, level or mark that it turned on."""
    explained = {one.centre: one for one in Judge(network(BBB=held), "AAA").explain(MARKS._replace(**marked))}
    assert tuple(explained) == CENTRES
    assert explained["BBB"] == Explained("BBB", rule in ("entitled", "named", "recall"), rule, said)  # type: ignore[arg-type]


def test_the_origin_is_explained_too() -> None:
    """It gets nothing from itself, and is told when it may not publish, and why."""
    (first, *_) = Judge(network(), "AAA").explain(MARKS)
    assert first == Explained("AAA", gets=False, rule="origin", sentence="It is the origin.")
    (first, *_) = Judge(network(AAA={"publish": (EUROPE,)}), "AAA").explain(MARKS._replace(regions=("035",)))
    assert first.sentence.startswith("It is the origin, and may not publish this: its entitlements to drugs.cocaine are for")


def test_a_long_list_is_cut_in_a_sentence() -> None:
    """A sentence stays one, however many regions an entitlement names."""
    elsewhere = [region for region in codes.REGIONS if not codes.region_covers(region, "155")]
    many = EUROPE.model_copy(update={"regions": tuple(elsewhere[:20])})
    explained = Judge(network(BBB={"subscribe": (many,)}), "AAA").explain(MARKS)
    assert "and 8 more" in explained[1].sentence


def admitted(judge: Judge, asked: Marks) -> tuple[Admission | None, tuple[Problem, ...]]:
    """Return the admission, or why there is none."""
    try:
        return judge.admit(asked), ()
    except Refused as refused:
        return None, refused.problems


@settings(max_examples=300, deadline=None)
@given(members, asked_about)
def test_the_explanation_is_what_happens(register: Directory, asked: Marks) -> None:
    """For any network and message: who is told to get it gets it, who is told why not does not, for the reason told."""
    judge = Judge(register, "AAA")
    explained = {one.centre: one for one in judge.explain(asked)}
    assert tuple(explained) == tuple(one.id for one in register.members)
    gets = {centre for centre, one in explained.items() if one.gets}
    origin = register.member("AAA")
    may_say = origin is not None and is_covered(origin.publish, asked)
    unreadable = {centre for centre, one in explained.items() if one.rule == "unreadable-version"}
    admission, refused = admitted(judge, asked)
    if admission:
        assert set(admission.recipients) == gets
        assert {one.centre for one in admission.withheld} == (unreadable if asked.to is None else set())
    named = [problem.pointer.removeprefix("/to/") for problem in refused if problem.pointer.startswith("/to/")]
    assert gets.isdisjoint((asked.to or ())[int(index)] for index in named)
    assert [problem.code for problem in refused] != ["no-recipients"] or not gets
    for one in register.members:
        if may_say and one.id != "AAA":
            rejected = Judge(register, one.id).verdict("AAA", asked)
            assert (rejected is None) == (one.id in gets | unreadable)


@settings(max_examples=300, deadline=None)
@given(members, asked_about)
def test_what_no_admission_ever_does(register: Directory, asked: Marks) -> None:
    """Nobody gets what excludes it, what is above its clearance, what no entitlement of its covers, or while suspended."""
    by_id = {one.id: one for one in register.members}
    levels = list(codes.CLASSIFICATIONS)
    gets = [one.centre for one in Judge(register, "AAA").explain(asked) if one.gets]
    for one in map(by_id.__getitem__, gets):
        assert one.id != "AAA"
        assert one.status == "active"
        assert one.id not in asked.exclude
        assert one.country not in asked.exclude
        assert levels.index(one.clearance) >= levels.index(asked.classification)
        assert is_covered(one.subscribe, asked)
        assert can_read(one, asked)


@settings(max_examples=100, deadline=None)
@given(asked_about)
def test_without_an_entitlement_nobody_gets_anything(asked: Marks) -> None:
    """Deny by default: a directory that grants nothing lets no message through, to nobody."""
    register = directory(*(member(centre, subscribe=()) for centre in CENTRES))
    assert not any(one.gets for one in Judge(register, "AAA").explain(asked))
    with pytest.raises(Refused):
        Judge(register, "AAA").admit(asked)
    assert all(Judge(register, centre).verdict("AAA", asked) is not None for centre in CENTRES)
