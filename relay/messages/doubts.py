"""What of a valid message looks wrong: goods and their HS chapter, units, amounts, permits.

A warning refuses nothing: the goods may have been declared under another chapter on purpose, and an expired permit is
often the very reason of a seizure. ``warnings`` walks a message that was already validated. Which chapters and measures
a family of goods usually has is data (``families`` in ``relay.codes``).

Codes: ``doubtful-chapter``, ``doubtful-unit``, ``doubtful-quantity``, ``permit-not-valid``, ``doubtful-date``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

from relay import codes
from relay.errors import Problem
from relay.messages.details import CulturalGoods, Details, Drugs, Medicines, Species
from relay.messages.part import Part
from relay.messages.parts import Commodity, Quantity

_IN_BASE = {"KGM": 1.0, "GRM": 1e-3, "MGM": 1e-6, "TNE": 1e3, "MTQ": 1.0, "LTR": 1e-3, "MLT": 1e-6}
_TOLERANCE = 1.001

# When the event of a kind took place: the day on which permits must have been valid.
_EVENTS = ("seized_at", "issued_at", "stated_at", "asked_at", "answered_at", "reported_at")


def warnings(message: Part) -> tuple[Problem, ...]:
    """Return what looks wrong in a valid message, each with its place, code and sentence."""
    return tuple(_of(message.__dict__, ""))


def _of(fields: Mapping[str, Any], place: str) -> Iterator[Problem]:
    # Fields by name out of the model's dictionary: asking the model for one that its kind has not costs more than all the rest.
    for index, goods in enumerate(fields.get("commodities", ())):
        if goods.details is not None:
            yield from _of_goods(goods, goods.details, fields, f"{place}/commodities/{index}")
    if details := fields.get("details"):
        yield from _of_details(details, fields, f"{place}/details")
    if isinstance(inner := fields.get("message"), Part):
        yield from _of(inner.__dict__, f"{place}/message")


def _day(fields: Mapping[str, Any]) -> date | None:
    for name in _EVENTS:
        if isinstance(moment := fields.get(name), datetime):
            return moment.date()
    return None


def _of_goods(goods: Commodity, details: Details, fields: Mapping[str, Any], place: str) -> Iterator[Problem]:
    usual = codes.LISTS["families"].data[details.family]
    if goods.hs and usual["chapters"] and goods.hs[:2] not in usual["chapters"]:
        sentence = f"HS chapter {goods.hs[:2]} is not usual for {details.family}: expected {', '.join(usual['chapters'])}"
        yield Problem(f"{place}/hs", "doubtful-chapter", sentence)
    if goods.quantity:
        yield from _of_quantity(goods.quantity, details, usual["measures"], f"{place}/quantity")
    yield from _of_details(details, fields, f"{place}/details")


def _of_quantity(quantity: Quantity, details: Details, measures: list[str], place: str) -> Iterator[Problem]:
    measure = codes.LISTS["units"].data[quantity.unit]
    if measures and measure not in measures:
        sentence = f"{details.family} are not usually measured by {measure}: expected {', '.join(measures)}"
        yield Problem(f"{place}/unit", "doubtful-unit", sentence)
    said, whole = _said(details, measure), quantity.amount * _IN_BASE.get(quantity.unit, 1.0)
    if said is not None and said > whole * _TOLERANCE:
        sentence = f"the details say more ({said:g}) than the quantity ({whole:g}), in the same measure"
        yield Problem(f"{place}/amount", "doubtful-quantity", sentence)


def _said(details: Details, measure: str) -> float | None:
    """Return how much the block itself says, in kilograms, cubic metres or pieces."""
    if isinstance(details, Drugs):
        return details.net_kg if measure == "mass" else None
    if isinstance(details, Medicines):
        return details.units if measure == "count" else None
    if isinstance(details, Species):
        return {"mass": details.mass_kg, "volume": details.volume_m3, "count": details.count}.get(measure)
    return None


def _of_details(details: Details, fields: Mapping[str, Any], place: str) -> Iterator[Problem]:
    if isinstance(details, Species):
        yield from _of_permits(details, _day(fields), place)
    if isinstance(details, CulturalGoods) and details.theft_date:
        day = _day(fields)
        if day and details.theft_date > day.isoformat():
            yield Problem(f"{place}/theft_date", "doubtful-date", "the theft is after the event that this message reports")


def _of_permits(details: Species, day: date | None, place: str) -> Iterator[Problem]:
    for index, paper in enumerate(details.papers):
        late = day and paper.valid_until and paper.valid_until < day.isoformat()
        early = day and paper.valid_from and paper.valid_from > day.isoformat()
        if late or early:
            yield Problem(f"{place}/papers/{index}", "permit-not-valid", f"the permit was not valid on {day}")
