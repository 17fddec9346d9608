"""The topology as data: names, keys, the desired state, whom the bindings reach, and differences."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import codes, topology
from relay.directory import Contact, Directory, Entitlement, Member
from relay.errors import Misconfigured
from relay.topology import Binding, Exchange, Permission, Queue, TopicPermission, Topology, User

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
CENTRES = ("BRU", "BE", "BE-CUS")
LEAVES = codes.leaves(codes.WORLD)


def member(centre: str, *subscribe: Entitlement, status: str = "active") -> Member:
    """Return a member that may receive this."""
    return Member.model_validate(
        {
            "id": centre,
            "name": centre,
            "organisation": "test",
            "seat": "nowhere",
            "time_zone": "UTC",
            "contact": Contact(name="d", telephone="0", email="d@d.example"),
            "keys": (),
            "subscribe": subscribe,
            "reads": {},
            "status": status,
        }
    )


def directory(*members: Member) -> Directory:
    """Return a directory of these members."""
    return Directory(
        network="0" * 64,
        version=1,
        previous=None,
        issued_at=NOW,
        warn_after=NOW + timedelta(days=1),
        expires_at=NOW + timedelta(days=2),
        members=members,
    )


def entitled(crime_types: str, regions: str) -> Entitlement:
    """Return an entitlement from words."""
    return Entitlement(crime_types=tuple(crime_types.split()), regions=tuple(regions.split()))


SMALL = directory(member("BRU", entitled("*", "001")), member("BE-CUS", entitled("drugs", "150")))
entitlements = st.builds(
    Entitlement,
    crime_types=st.lists(st.sampled_from(("*", *codes.CRIME_TYPES)), min_size=1, max_size=3).map(tuple),
    regions=st.lists(st.sampled_from(codes.REGIONS), min_size=1, max_size=3).map(tuple),
    kinds=st.sampled_from((("*",), ("alert",))),
)
directories = st.tuples(*(st.lists(entitlements, max_size=3) for _ in CENTRES)).map(
    lambda held: directory(*(member(centre, *given) for centre, given in zip(CENTRES, held, strict=True)))
)
pairs = st.tuples(
    st.lists(st.sampled_from(LEAVES), min_size=1, max_size=3),
    st.lists(st.sampled_from(codes.CRIME_TYPES), min_size=1, max_size=3),
)


def matches(pattern: list[str], words: list[str]) -> bool:
    """Match a topic as AMQP describes it, written without a look at the code under test."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(matches(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


def routed(state: Topology, start: str, keys: list[str]) -> frozenset[str]:
    """Return the queues that a message with these keys (routing key and ``CC``) reaches from an exchange."""
    found: set[str] = set()
    for binding in state.bindings:
        if binding.source == start and any(matches(binding.key.split("."), key.split(".")) for key in keys):
            queue = binding.destination_type == "queue"
            found |= {binding.destination} if queue else routed(state, binding.destination, keys)
    return frozenset(found)


@settings(max_examples=60, deadline=None)
@given(directories, pairs, st.sampled_from(codes.STATUSES), st.sampled_from(codes.PRECEDENCES))
def test_the_bindings_reach_exactly_the_centres_that_bound_names(
    register: Directory, pair: tuple[list[str], list[str]], status: str, precedence: str
) -> None:
    """For random entitlements an independent model of topic routing agrees with ``bound``, in the right lane only."""
    regions, crime_types = pair
    keys = topology.intel_keys("BRU", status, precedence, regions, crime_types)
    reached = routed(topology.topology(register), topology.exchange("BRU"), keys)
    lane = topology.lane(status, precedence)
    assert reached == {topology.queue(centre, lane) for centre in topology.bound(register, tuple(regions), tuple(crime_types))}


@settings(max_examples=60, deadline=None)
@given(directories, pairs)
def test_bound_is_the_union_over_all_pairs_of_what_entitlements_cover(
    register: Directory, pair: tuple[list[str], list[str]]
) -> None:
    """``bound`` agrees with ``Entitlement.covers`` for kinds that an entitlement names, pair by pair."""
    expected = {
        held.id
        for held in register.members
        for entitlement in held.subscribe
        for crime_type in pair[1]
        if entitlement.covers(crime_type, tuple(pair[0]), "alert", nominal=False)
    }
    assert topology.bound(register, *pair) == expected


@pytest.mark.parametrize("lane", [*topology.LANES, topology.CONTROL])
def test_a_lane_key_lands_in_that_lane_of_that_centre_only(lane: str) -> None:
    """A mark sent with ``lane_key`` arrives in the queue whose messages it speaks of."""
    reached = routed(topology.topology(SMALL), "relay.out.BRU", [topology.lane_key("BRU", "BE-CUS", lane)])
    assert reached == {topology.queue("BE-CUS", lane)}


@pytest.mark.parametrize("status", codes.STATUSES)
@pytest.mark.parametrize("precedence", codes.PRECEDENCES)
def test_an_addressed_message_lands_in_its_lane(status: str, precedence: str) -> None:
    """Exercise and test traffic never lands in a lane of actual traffic."""
    reached = routed(topology.topology(SMALL), "relay.out.BRU", [topology.direct_key("BRU", "BE-CUS", status, precedence)])
    assert reached == {topology.queue("BE-CUS", topology.lane(status, precedence))}
    assert (topology.lane(status, precedence) == "exercise") == (status != "actual")


def test_what_claims_another_origin_leaves_no_exchange() -> None:
    """A key with another centre's id goes nowhere from one's own exchange: the exchange's name is the identity."""
    state = topology.topology(SMALL)
    for key in ("BE-CUS.to.BRU.control", "BE-CUS.intel.actual.flash.155.drugs"):
        assert routed(state, "relay.out.BRU", [key]) == frozenset()


def test_routing_keys_fit_into_255_bytes() -> None:
    """AMQP's limit holds for the longest ids, regions and crime types there can be."""
    longest = "ABCDEFGH-ABCDEFGH"
    crime_type = max(codes.CRIME_TYPES, key=len)
    keys = topology.intel_keys(longest, "exercise", "immediate", ["155"], [crime_type])
    keys.append(topology.direct_key(longest, longest, "exercise", "immediate"))
    keys += [binding.key for binding in topology.topology(directory(member(longest, entitled("*", "001")))).bindings]
    assert max(len(key.encode()) for key in keys) <= 255


def test_intel_keys_are_distinct_and_stable() -> None:
    """The same regions and crime types in another order, or twice, give the same keys."""
    keys = topology.intel_keys("BRU", "actual", "flash", ["155", "039"], ["drugs", "medicines"])
    again = topology.intel_keys("BRU", "actual", "flash", ["039", "155", "155"], ["medicines", "drugs"])
    assert keys == again
    assert len(set(keys)) == 4


def test_lanes_stand_most_urgent_first() -> None:
    """The lanes' order is the order in which a node serves them, exercise last."""
    assert topology.LANES == ("flash", "immediate", "priority", "routine", "exercise")
    assert topology.queues("BRU")[0] == "relay.in.BRU.flash"


def test_rights_are_exactly_ones_own_exchange_and_queues() -> None:
    """A centre whose id begins like another's (BE, BE-CUS) has no right to the other's objects."""
    state = topology.topology(directory(member("BE"), member("BE-CUS")))
    names = [item.name for item in (*state.exchanges, *state.queues)]
    rights = {permission.user: permission for permission in state.permissions}
    for centre in ("BE", "BE-CUS"):
        assert [name for name in names if re.search(rights[centre].write, name)] == [f"relay.out.{centre}"]
        assert {name for name in names if re.search(rights[centre].read, name)} == set(topology.queues(centre))
        assert not [name for name in names if re.search(rights[centre].configure, name)]


def test_topic_rights_are_ones_own_origin() -> None:
    """The topic permission admits keys of the centre itself and of no other that begins alike."""
    state = topology.topology(directory(member("BE"), member("BE-CUS")))
    right = next(item for item in state.topic_permissions if item.user == "BE")
    assert re.search(right.write, "BE.intel.actual.flash.155.drugs")
    assert not re.search(right.write, "BE-CUS.intel.actual.flash.155.drugs")


def test_every_queue_is_bounded_quorum_with_a_positive_delivery_limit() -> None:
    """What 3.10 and 4.x treat differently (limits of -1 or none) is never declared; poison has a place to go."""
    for queue in topology.topology(SMALL).queues:
        arguments = dict(queue.arguments)
        assert queue.durable
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-overflow"] == "reject-publish"
        assert int(arguments["x-max-length-bytes"]) > 0
        assert int(arguments["x-delivery-limit"]) > 0
        assert ("x-dead-letter-exchange" in arguments) == (not queue.name.endswith(".poison"))


def test_a_poisoned_envelope_lands_in_its_centres_poison_queue() -> None:
    """The dead-letter exchange and key of every queue lead to the poison queue of the same centre."""
    state = topology.topology(SMALL)
    dead = dict(next(queue for queue in state.queues if queue.name == "relay.in.BE-CUS.flash").arguments)
    bindings = [item for item in state.bindings if item.source == dead["x-dead-letter-exchange"]]
    assert [item.destination for item in bindings if item.key == dead["x-dead-letter-routing-key"]] == ["relay.in.BE-CUS.poison"]


def test_a_suspended_member_has_nothing_on_the_broker() -> None:
    """Suspending a member removes its account, rights, exchange, queues and bindings, and leaves the rest alone."""
    before = topology.topology(directory(member("BRU"), member("SIN", entitled("drugs", "155"))))
    after = topology.topology(directory(member("BRU"), member("SIN", status="suspended")))
    changes = topology.difference(after, before)
    assert {change.action for change in changes} == {"remove"}
    assert all("SIN" in str(change) for change in changes)
    assert not topology.difference(after, after)


def test_a_definitions_file_reads_back_as_the_same_topology() -> None:
    """``from_definitions`` is the inverse of ``definitions``, so a plan over an export is exact."""
    state = topology.topology(SMALL)
    file = topology.definitions(state, {"BRU": "a", "BE-CUS": "b"})
    assert not topology.difference(state, topology.from_definitions(file))


def test_a_definitions_file_holds_no_password() -> None:
    """Only salted hashes leave, and the hash belongs to the password."""
    file = topology.definitions(topology.topology(SMALL), {"BRU": "first secret", "BE-CUS": "second secret"})
    assert "secret" not in str(file)
    hashes = {user["name"]: user["password_hash"] for user in file["users"]}
    assert topology.password_matches("first secret", hashes["BRU"])
    assert not topology.password_matches("second secret", hashes["BRU"])
    assert topology.password_hash("x") != topology.password_hash("x")


def test_an_account_without_a_known_password_is_refused() -> None:
    """An account is never made with an empty or a guessed password."""
    with pytest.raises(Misconfigured) as caught:
        topology.definitions(topology.topology(SMALL), {"BRU": "a"})
    assert caught.value.code == "no-broker-password"


def test_what_is_not_the_relays_is_never_part_of_a_difference() -> None:
    """Foreign accounts, exchanges, queues and bindings stay, even beside a listener; that one is listed apart."""
    state = topology.topology(SMALL)
    listener = Binding("relay.intel", "audit-tap", "#")
    foreign = replace(
        state,
        users=state.users | {User("monitoring", ("monitoring",))},
        permissions=state.permissions | {Permission("monitoring", "^$", "^$", ".*")},
        exchanges=state.exchanges | {Exchange("billing")},
        queues=state.queues | {Queue("audit-tap", ())},
        bindings=state.bindings | {listener, Binding("billing", "audit-tap", "#")},
    )
    assert topology.difference(state, foreign) == []
    assert topology.strangers(foreign) == [listener]
    assert topology.strangers(state) == []


def test_a_former_centre_is_known_by_its_tag() -> None:
    """An account that the relay made is removed with its rights even when no directory names it any more."""
    state = topology.topology(SMALL)
    actual = replace(
        state,
        users=state.users | {User("OLD")},
        permissions=state.permissions | {Permission("OLD", "^$", "x", "y")},
    )
    assert [str(change) for change in topology.difference(state, actual)] == [
        "remove permission OLD: configure ^$ write x read y",
        "remove account OLD",
    ]


def test_changes_print_one_line_each_in_an_order_that_can_be_applied() -> None:
    """Nothing refers to what does not exist yet: accounts before rights, exchanges and queues before bindings."""
    changes = topology.difference(topology.topology(SMALL), Topology())
    lines = [str(change) for change in changes]
    assert all("\n" not in line for line in lines)
    kinds = list(dict.fromkeys(change.item.kind for change in changes))
    assert kinds == ["account", "permission", "topic permission", "exchange", "queue", "binding"]
    assert "create binding relay.out.BRU -> relay.intel (BRU.intel.#)" in lines


def test_a_queue_with_other_arguments_is_made_anew_with_its_bindings() -> None:
    """RabbitMQ can't change a queue in place, so the plan says so and restores the bindings that vanish with it."""
    state = topology.topology(SMALL)
    queue = next(item for item in state.queues if item.name == "relay.in.BE-CUS.flash")
    other = Queue(queue.name, (("x-queue-type", "classic"),))
    changes = topology.difference(state, replace(state, queues=state.queues - {queue} | {other}))
    assert changes[0].replaces
    assert changes[0].destroys
    assert {change.item for change in changes[1:]} == {item for item in state.bindings if item.destination == queue.name}


def test_a_wrong_topic_right_is_removed_before_the_right_one_is_made() -> None:
    """RabbitMQ removes all topic permissions of an account at once; the plan puts the wanted one back afterwards."""
    state = topology.topology(SMALL)
    extra = TopicPermission("BRU", "relay.out.BE-CUS", ".*", ".*")
    changes = topology.difference(state, replace(state, topic_permissions=state.topic_permissions | {extra}))
    assert [(change.action, change.item.identity) for change in changes] == [
        ("remove", ("BRU", "relay.out.BE-CUS")),
        ("create", ("BRU", "relay.out.BRU")),
    ]


def test_a_stale_password_is_a_change() -> None:
    """An account whose password on the broker is another than the given one is set anew."""
    state = topology.topology(SMALL)
    assert [str(change) for change in topology.difference(state, state, stale={"BRU"})] == [
        "change account BRU: set its password"
    ]
