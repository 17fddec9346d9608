r"""The annotated types that message fields are made of: listed codes, formed strings, bounded texts.

Each carries its own refusal - a stable code of the catalogue and a sentence that says what would be right - so that a
field needs no validator of its own. Everything that can be said as a pattern or a closed list runs inside pydantic's
compiled core; a Python function runs only for check digits and the like, after the pattern has matched. All types are
strict: a number is never made from a string. Named types (``TypeAliasType``) become shared definitions in the JSON
Schemas.

Patterns spell out ``[0-9]`` because the core's ``\d`` also matches digits of other scripts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypeAliasType

from relay import codes


def refusal(code: str, sentence: str) -> PydanticCustomError:
    """Return an error of the catalogue for a validator to raise."""
    return PydanticCustomError(code, "{sentence}", {"sentence": sentence})


def _coded(schema: CoreSchema, code: str, sentence: str) -> CoreSchema:
    """Return a schema of text whose failure is reported with our code and sentence."""
    # The sentence goes through the context: a brace in it must not be read as a placeholder. "text" lets ``problems``
    # tell what is no string at all from what is the wrong one; checking that first here would read every value twice.
    return core_schema.custom_error_schema(
        schema,
        custom_error_type=code,
        custom_error_message="{sentence}",
        custom_error_context={"sentence": sentence, "text": 1},
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """A code of a closed list, which is read when a model is built: an operator may have replaced it."""

    values: Callable[[], tuple[str, ...]]
    sentence: Callable[[], str]
    code: str = "not-in-list"

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check membership inside the compiled core."""
        return _coded(core_schema.literal_schema(list(self.values())), self.code, self.sentence())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Publish the list."""
        return {"type": "string", "enum": list(self.values())}


@dataclass(frozen=True, slots=True)
class Form:
    """A string of a fixed form, and optionally a check that a pattern can't make (raising a ``refusal``)."""

    pattern: str
    sentence: str
    max_length: int
    check: Callable[[str], str] | None = None
    code: str = "bad-format"

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Match the pattern inside the compiled core, then call the check."""
        # The length first: a megabyte in a field of eleven characters is not worth a pattern match.
        formed = core_schema.str_schema(max_length=self.max_length, pattern=self.pattern)
        schema = _coded(formed, self.code, self.sentence)
        return core_schema.no_info_after_validator_function(self.check, schema) if self.check else schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Publish the pattern."""
        return {"type": "string", "pattern": self.pattern, "maxLength": self.max_length}


class _Moment:
    """An RFC 3339 time with a zone, of the years 1900 to 2999.

    Pydantic alone would also take a space for the T and no seconds, and a year 1 that overflows when moved to UTC.
    """

    pattern = r"^(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
    sentence = "a time is written as RFC 3339 with its zone, such as 2026-02-03T04:05:06Z"

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Match the form, then let the compiled core read the time."""
        formed = _coded(core_schema.str_schema(max_length=32, pattern=self.pattern), "bad-format", self.sentence)
        moment = _coded(core_schema.datetime_schema(tz_constraint="aware", strict=False), "bad-format", self.sentence)
        return core_schema.chain_schema([formed, moment])

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Publish the form."""
        return {"type": "string", "format": "date-time", "pattern": self.pattern}


def listed(name: str) -> Listed:
    """Return membership of one of the closed lists of ``codes``."""
    return Listed(partial(codes.codes_of, name), partial(_one_of, name))


def _one_of(name: str) -> str:
    values = codes.codes_of(name)
    shown = ", ".join(values) if len(values) <= 16 else f"{', '.join(values[:8])} and {len(values) - 8} more"
    return f"the value must be one of {name.replace('_', ' ')}: {shown}"


def _distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(items)) != len(items):
        raise refusal("repeated-item", "the same value stands twice in this list; name each once")
    return items


Distinct = AfterValidator(_distinct)


def _currency(code: str) -> str:
    if not codes.is_currency(code):
        raise refusal("not-in-list", "a currency is an ISO 4217 code in use today, such as EUR")
    return code


def _language_schema() -> Form:
    return Form(
        r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$",
        "a language is a BCP 47 tag of language, script and region, such as fr, zh-Hant or es-AR",
        max_length=11,
    )


def _real_day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise refusal("bad-format", "this day does not exist in the calendar") from None
    return text


def _not_all_zero(text: str) -> str:
    if not text.strip("0"):
        raise refusal("bad-format", "a trace id of zeros alone stands for none: leave correlation out")
    return text


Day = TypeAliasType(
    "Day",
    Annotated[
        str,
        Form(
            r"^(19|2[0-9])[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$",
            "a day is written as 2027-03-31",
            10,
            _real_day,
        ),
    ],
)
Moment = TypeAliasType("Moment", Annotated[datetime, _Moment()])
CrimeType = TypeAliasType(
    "CrimeType",
    Annotated[
        str,
        Listed(codes.known_crime_types, lambda: f"no crime type of list {codes.crime_types_version()}", "unknown-crime-type"),
    ],
)
Country = TypeAliasType(
    "Country",
    Annotated[
        str,
        Listed(lambda: codes.COUNTRIES, lambda: "a country is its ISO 3166-1 alpha-2 code, such as BE", "unknown-country"),
    ],
)
Unit = TypeAliasType("Unit", Annotated[str, listed("units")])
TransportMode = TypeAliasType("TransportMode", Annotated[str, listed("transport_modes")])
Currency = TypeAliasType(
    "Currency",
    Annotated[str, Form(r"^[A-Z]{3}$", "a currency is three capital letters, such as EUR", 3, _currency)],
)
Language = TypeAliasType("Language", Annotated[str, _language_schema()])
CentreId = TypeAliasType(
    "CentreId",
    Annotated[
        str,
        Form(
            r"^[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?$",
            "a centre's id is 2 to 8 capital letters or digits, or two such with a hyphen, as BRU or BE-CUS",
            17,
        ),
    ],
)
MessageId = TypeAliasType(
    "MessageId",
    Annotated[
        str,
        Form(
            r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
            "a message id is a UUID in lower case with hyphens",
            36,
        ),
    ],
)
Digest = TypeAliasType("Digest", Annotated[str, Form(r"^[0-9a-f]{64}$", "a digest is SHA-256 in 64 lower-case hex digits", 64)])
TraceId = TypeAliasType(
    "TraceId",
    Annotated[
        str,
        Form(
            r"^[0-9a-f]{32}$", "a correlation is a W3C trace id: 32 lower-case hex digits, not all of them 0", 32, _not_all_zero
        ),
    ],
)
Grading = TypeAliasType(
    "Grading",
    Annotated[
        str,
        Listed(lambda: codes.GRADINGS, lambda: "a grading is the source A, B, C or X and the information 1 to 4, such as B2"),
    ],
)

Label = Annotated[str, Field(min_length=1, max_length=200)]
Line = Annotated[str, Field(min_length=1, max_length=1000)]
Prose = Annotated[str, Field(min_length=1, max_length=20_000)]
CaseNumber = Annotated[str, Field(min_length=1, max_length=100)]
Amount = Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)]
Kilograms = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
