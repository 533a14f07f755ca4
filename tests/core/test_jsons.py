"""JSON columns: what orjson writes and reads is what Python's own would, also where orjson refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.database.jsons import dumps, loads

# JSON has no infinity: orjson writes null for it, and nothing of ours stores one.
_NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_LEAVES = st.none() | st.booleans() | _NUMBERS | st.text()
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(_VALUES)
def test_every_value_comes_back_and_python_reads_it_alike(value: object) -> None:
    assert loads(dumps(value)) == json.loads(dumps(value)) == value


@pytest.mark.parametrize("value", ["half \ud800", {"half \udfff": 1}])
def test_what_orjson_refuses_to_write_is_written_as_python_writes_it(value: object) -> None:
    assert dumps(value) == json.dumps(value)
    assert loads(dumps(value)) == value


def test_keys_are_texts_as_python_makes_them() -> None:
    assert loads(dumps({1: "a", None: "b"})) == {"1": "a", "null": "b"}


def test_what_python_wrote_before_is_read() -> None:
    assert loads('{"a": NaN, "b": Infinity}')["b"] == float("inf")
    assert loads(json.dumps("half \ud800")) == "half \ud800"
    assert loads(b"[1]") == [1]


def test_a_time_is_refused_as_python_refuses_it() -> None:
    with pytest.raises(TypeError):
        dumps({"at": datetime.now(UTC)})
