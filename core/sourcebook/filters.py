"""Which passages a search may find, by what is known of their sources: one typed value from the API to the engine.

A client writes JSON. An object's entries must all hold; a key takes a value, a list (any of them) or bounds; `and`,
`or` and `not` combine:

    {"tags": ["contract", "lease"], "year": {"gte": 2020}, "not": {"author": "Lee"}}
    {"or": [{"source": "src_1"}, {"published": {"gte": "2024-01-01", "lt": "2025-01-01"}}]}

`parse` checks it against the keys that the configuration allows (`[filters]`, and `BUILT_IN`) and makes a `Filter`;
engines only ever see that. It is small on purpose:

    AnyOf(key, values)       the field is one of `values` or, where it is a list, holds one; texts and booleans only
    Between(key, gte, ...)   a number within all the bounds that are set; a date is its seconds since 1970 in UTC
    And(parts)  Or(parts)    never empty
    Not(part)                everything in the scope that `part` does not match, also where the field is missing

Key `source` is `Point.source_id`; every other key is one of `Point.fields`. A missing field matches nothing. `matches`
says the same in Python: the engines' contract is tested against it, and core asks it again of every hit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from sourcebook.errors import InvalidInput

FieldType = Literal["text", "number", "boolean", "date"]
FieldValue = str | bool | float | tuple[str, ...] | tuple[float, ...]
"""What a point carries: a date as seconds since 1970, a list as a tuple of one type."""

SOURCE = "source"
BUILT_IN: Mapping[str, FieldType] = {
    SOURCE: "text",
    "tags": "text",
    "name": "text",
    "media_type": "text",
    "language": "text",
    "added": "date",
}
"""Keys that every source has, without any configuration."""

RESERVED = frozenset({"and", "or", "not"})

MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_VALUES = 1000
MAX_TEXT = 500
"""Characters of a text that can be compared: a longer one is not stored with its points."""

_BOUNDS = ("gte", "gt", "lte", "lt")


@dataclass(frozen=True)
class AnyOf:
    """The field is, or holds, one of `values`: texts or booleans."""

    key: str
    values: tuple[str | bool, ...]


@dataclass(frozen=True)
class Between:
    """The field is, or holds, a number within every bound that is set; at least one is."""

    key: str
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None


@dataclass(frozen=True)
class And:
    """All of `parts`."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """At least one of `parts`."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """What `part` does not match."""

    part: Filter


Filter = AnyOf | Between | And | Or | Not


def parse(data: Any, keys: Mapping[str, FieldType]) -> Filter | None:
    """The filter that a client wrote; None for an empty object. `keys` are the configured ones, without `BUILT_IN`.

    Raises `InvalidInput` (code `filter_invalid`) that says where, and what would be right.
    """
    return _Reader({**keys, **BUILT_IN}).read(data)


def matches(where: Filter, source_id: str, fields: Mapping[str, FieldValue]) -> bool:
    """Whether a source with these fields is matched."""
    match where:
        case And(parts):
            return all(matches(part, source_id, fields) for part in parts)
        case Or(parts):
            return any(matches(part, source_id, fields) for part in parts)
        case Not(part):
            return not matches(part, source_id, fields)
        case AnyOf(key, wanted):
            # By type too: to Python, True is 1.
            return any(type(v) is type(w) and v == w for v in _held(key, source_id, fields) for w in wanted)
        case Between(key):
            return any(_within(where, v) for v in _held(key, source_id, fields))


def fields_of(
    keys: Mapping[str, FieldType], built_in: Mapping[str, Any], *metadata: Mapping[str, Any]
) -> dict[str, FieldValue]:
    """What a source's points carry: of each key the first metadata that has it (the user's own before the document's).

    A value that is not of its key's type is left out: metadata is free, and only what can be compared is.
    """
    found: dict[str, FieldValue] = {}
    for key, kind in BUILT_IN.items():
        if key != SOURCE and (value := _stored(built_in.get(key), kind)) is not None:
            found[key] = value
    for key, kind in keys.items():
        values = (_stored(m.get(key), kind) for m in metadata)
        if (value := next((v for v in values if v is not None), None)) is not None:
            found[key] = value
    return found


def source_fields(
    keys: Mapping[str, FieldType], source: Mapping[str, Any], document: Mapping[str, Any]
) -> dict[str, FieldValue]:
    """The fields of a row of `sources`, with its document's metadata."""
    built_in = {name: source[name] for name in ("tags", "name", "media_type")}
    built_in |= {"language": document.get("language"), "added": source["created_at"]}
    return fields_of(keys, built_in, source["metadata"] or {}, document)


def check_keys(keys: Mapping[str, FieldType]) -> None:
    """Raise `ValueError` for a configured key that would hide a word of the language or a built-in one."""
    if taken := sorted(keys.keys() & (RESERVED | BUILT_IN.keys())):
        raise ValueError(f"the names {', '.join(taken)} are taken; every source has {', '.join(BUILT_IN)} already")


class _Reader:
    """Reads one filter, and counts what it costs."""

    def __init__(self, keys: Mapping[str, FieldType]) -> None:
        self._keys = keys
        self._conditions = 0

    def read(self, data: Any, at: str = "filters", depth: int = 0) -> Filter | None:
        if not isinstance(data, Mapping):
            raise _invalid(at, 'must be an object, such as {"tags": "contract"}')
        if depth > MAX_DEPTH:
            raise _invalid(at, f"is nested more than {MAX_DEPTH} deep")
        parts = [self._entry(str(key), value, f"{at}.{key}", depth) for key, value in data.items()]
        found = [part for part in parts if part is not None]
        return _joined(And, found) if found else None

    def _entry(self, key: str, value: Any, at: str, depth: int) -> Filter | None:
        if key == "not":
            part = self.read(value, at, depth + 1)
            if part is None:
                raise _invalid(at, "needs a condition")
            return Not(part)
        if key in RESERVED:
            if not isinstance(value, list) or not value:
                raise _invalid(at, "must be a list of at least one object")
            parts = [self.read(one, f"{at}[{i}]", depth + 1) for i, one in enumerate(value)]
            if None in parts:
                raise _invalid(f"{at}[{parts.index(None)}]", "needs a condition")
            return _joined(And if key == "and" else Or, [part for part in parts if part is not None])
        if key not in self._keys:
            raise _invalid(at, f"is not a key to filter by; there are: {', '.join(sorted(self._keys))}")
        return self._condition(key, value, at)

    def _condition(self, key: str, value: Any, at: str) -> Filter:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise _invalid(at, f"is one condition too many: {MAX_CONDITIONS} at most")
        kind = self._keys[key]
        if isinstance(value, Mapping):
            return self._bounds(key, kind, value, at)
        values = value if isinstance(value, list) else [value]
        if not 1 <= len(values) <= MAX_VALUES:
            raise _invalid(at, f"must have 1 to {MAX_VALUES} values")
        if kind in ("text", "boolean"):
            return AnyOf(key, tuple(dict.fromkeys(_word(v, kind, at) for v in values)))
        return _joined(Or, [self._equal(key, kind, v, at) for v in values])

    def _equal(self, key: str, kind: FieldType, value: Any, at: str) -> Filter:
        """A number is within itself; a day without a time is the whole day."""
        start = _number(value, kind, at)
        if kind == "date" and isinstance(value, str) and len(value) == 10:
            return Between(key, gte=start, lt=start + 86_400)
        return Between(key, gte=start, lte=start)

    def _bounds(self, key: str, kind: FieldType, bounds: Mapping[str, Any], at: str) -> Filter:
        if unknown := [b for b in bounds if b not in _BOUNDS]:
            raise _invalid(f"{at}.{unknown[0]}", f"is not a bound; there are: {', '.join(_BOUNDS)}")
        if kind not in ("number", "date"):
            raise _invalid(at, f"holds {_article(kind)}, which has no bounds: give a value or a list of them")
        if not bounds:
            raise _invalid(at, f"needs a bound: {', '.join(_BOUNDS)}")
        return Between(key, **{b: _number(v, kind, f"{at}.{b}") for b, v in bounds.items()})


def _joined(cls: type[And] | type[Or], parts: list[Filter]) -> Filter:
    return cls(tuple(parts)) if len(parts) > 1 else parts[0]


def _word(value: Any, kind: FieldType, at: str) -> str | bool:
    if kind == "boolean":
        if not isinstance(value, bool):
            raise _invalid(at, "must be true or false")
        return value
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or "\0" in value:
        raise _invalid(at, f"must be a text of 1 to {MAX_TEXT} characters")
    return value


def _number(value: Any, kind: FieldType, at: str) -> float:
    found = _seconds(value) if kind == "date" else _finite(value)
    if found is None:
        what = "a date such as 2024-05-31 or 2024-05-31T12:00:00Z" if kind == "date" else "a number"
        raise _invalid(at, f"must be {what}")
    return found


def _invalid(at: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"{at} {what}.",
        code="filter_invalid",
        remedy="Keys and their types are set in the section [filters] of the configuration.",
    )


def _article(kind: FieldType) -> str:
    return "a text" if kind == "text" else "true or false"


def _stored(value: Any, kind: FieldType) -> FieldValue | None:
    """`value` as its key's type, a list as a tuple of what fits; None for what cannot be compared."""
    if isinstance(value, list | tuple):
        fit = [one for one in (_stored_one(v, kind) for v in value[:MAX_VALUES]) if one is not None]
        return tuple(dict.fromkeys(fit)) or None  # type: ignore[return-value]  # all of one kind
    return _stored_one(value, kind)


def _stored_one(value: Any, kind: FieldType) -> str | bool | float | None:
    match kind:
        case "text":
            return value if isinstance(value, str) and 0 < len(value) <= MAX_TEXT else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "number":
            return _finite(value)
        case "date":
            return _seconds(value)


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _seconds(value: Any) -> float | None:
    """Of a datetime, a date or an ISO 8601 text; what has no zone is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    elif isinstance(value, date):
        aware = datetime(value.year, value.month, value.day, tzinfo=UTC)
    else:
        return None
    try:
        return aware.timestamp()
    except (OverflowError, ValueError):
        return None


def _held(key: str, source_id: str, fields: Mapping[str, FieldValue]) -> Iterable[str | bool | float]:
    if key == SOURCE:
        return (source_id,)
    value = fields.get(key, ())
    return value if isinstance(value, tuple) else (value,)


def _within(bounds: Between, value: str | bool | float) -> bool:
    if isinstance(value, str | bool):
        return False
    return (
        (bounds.gte is None or value >= bounds.gte)
        and (bounds.gt is None or value > bounds.gt)
        and (bounds.lte is None or value <= bounds.lte)
        and (bounds.lt is None or value < bounds.lt)
    )
