"""What a client may filter by, and what every mistake is told."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.errors import InvalidInput
from sourcebook.filters import (
    MAX_CONDITIONS,
    MAX_VALUES,
    And,
    AnyOf,
    Between,
    FieldType,
    Not,
    Or,
    check_keys,
    fields_of,
    matches,
    parse,
)

KEYS: dict[str, FieldType] = {"author": "text", "year": "number", "day": "date", "signed": "boolean"}
MAY_31 = datetime(2024, 5, 31, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({}, None),
        ({"author": "Lee"}, AnyOf("author", ("Lee",))),
        ({"author": ["Lee", "Ann", "Lee"]}, AnyOf("author", ("Lee", "Ann"))),
        ({"signed": True}, AnyOf("signed", (True,))),
        ({"source": "src_1", "tags": ["a"]}, And((AnyOf("source", ("src_1",)), AnyOf("tags", ("a",))))),
        ({"year": 2000}, Between("year", gte=2000, lte=2000)),
        ({"year": [1, 2]}, Or((Between("year", gte=1, lte=1), Between("year", gte=2, lte=2)))),
        ({"year": {"gt": 1, "lte": 2.5}}, Between("year", gt=1, lte=2.5)),
        ({"day": "2024-05-31"}, Between("day", gte=MAY_31, lt=MAY_31 + 86400)),
        ({"day": {"gte": "2024-05-31T02:00:00+02:00"}}, Between("day", gte=MAY_31)),
        ({"day": {"lt": "2024-05-31T00:00:00Z"}}, Between("day", lt=MAY_31)),
        ({"not": {"author": "Lee"}}, Not(AnyOf("author", ("Lee",)))),
        ({"or": [{"author": "a"}, {"year": {"lt": 1}}]}, Or((AnyOf("author", ("a",)), Between("year", lt=1)))),
        ({"and": [{"author": "a"}]}, AnyOf("author", ("a",))),
    ],
)
def test_a_filter_means_what_it_says(data: Any, wanted: Any) -> None:
    assert parse(data, KEYS) == wanted


def _deep(levels: int) -> Any:
    return {"not": _deep(levels - 1)} if levels else {"author": "a"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "filters must be an object"),
        ("author", "filters must be an object"),
        ({"autor": "Lee"}, "filters.autor is not a key to filter by; there are: added, author, day"),
        ({"author": 3}, "filters.author must be a text"),
        ({"author": ""}, "filters.author must be a text"),
        ({"author": "a\0"}, "filters.author must be a text"),
        ({"author": None}, "filters.author must be a text"),
        ({"author": []}, "filters.author must have 1 to 1000 values"),
        ({"author": ["a"] * (MAX_VALUES + 1)}, "filters.author must have 1 to 1000 values"),
        ({"author": {"gte": "a"}}, "filters.author holds a text, which has no bounds"),
        ({"signed": 1}, "filters.signed must be true or false"),
        ({"year": "2000"}, "filters.year must be a number"),
        ({"year": True}, "filters.year must be a number"),
        ({"year": float("nan")}, "filters.year must be a number"),
        ({"year": 10**400}, "filters.year must be a number"),
        ({"year": {}}, "filters.year needs a bound: gte, gt, lte, lt"),
        ({"year": {"min": 1}}, "filters.year.min is not a bound"),
        ({"day": {"gte": "yesterday"}}, "filters.day.gte must be a date such as"),
        ({"day": 3}, "filters.day must be a date such as"),
        ({"not": {}}, "filters.not needs a condition"),
        ({"not": [{"author": "a"}]}, "filters.not must be an object"),
        ({"or": {"author": "a"}}, "filters.or must be a list"),
        ({"or": []}, "filters.or must be a list"),
        ({"or": [{"author": "a"}, {}]}, "filters.or[1] needs a condition"),
        ({"and": [{"or": [{"yeer": 1}]}]}, "filters.and[0].or[0].yeer is not a key"),
        (_deep(30), "is nested more than 8 deep"),
        ({"or": [{"author": "a"}] * (MAX_CONDITIONS + 1)}, "one condition too many"),
    ],
)
def test_a_mistake_is_named_with_its_place(data: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse(data, KEYS)
    assert said in str(raised.value)
    assert raised.value.problem_code == "filter_invalid"


def test_fields_come_from_the_users_metadata_before_the_documents() -> None:
    built_in = {"tags": ["a", "b"], "name": "x.pdf", "language": "", "added": datetime(1970, 1, 2, tzinfo=UTC)}
    mine = {"author": "Lee", "year": "2000", "day": "not a day", "other": 1}
    theirs = {"author": "Ann", "year": 1999, "day": date(1970, 1, 2), "signed": "yes"}
    assert fields_of(KEYS, built_in, mine, theirs) == {
        "tags": ("a", "b"),
        "name": "x.pdf",
        "added": 86400.0,
        "author": "Lee",
        "year": 1999.0,
        "day": 86400.0,
    }


def test_a_list_keeps_what_fits_its_type() -> None:
    assert fields_of({"author": "text", "year": "number"}, {}, {"author": ["Lee", 3, "Lee", ""], "year": ["x"]}) == {
        "author": ("Lee",)
    }


def test_a_configured_key_cannot_hide_a_word_of_the_language() -> None:
    check_keys(KEYS)
    for taken in ("and", "not", "tags", "source"):
        with pytest.raises(ValueError, match=taken):
            check_keys({taken: "text"})


def test_to_python_one_is_true_and_to_a_filter_it_is_not() -> None:
    assert not matches(AnyOf("signed", (True,)), "s", {"signed": 1.0})
    assert not matches(Between("year", gte=0), "s", {"year": True})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*KEYS, "and", "or", "not", "gte", "lt", "tags", "?"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_json)
def test_whatever_comes_in_is_a_filter_or_a_clear_refusal(data: Any) -> None:
    try:
        where = parse(data, KEYS)
    except InvalidInput as error:
        where, said = None, error.detail
        assert said.startswith("filters")
    if where is not None:
        matches(where, "s", {"author": "a", "year": 1.0})
