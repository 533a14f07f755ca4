"""Fusing legs by rank and by distribution, on examples worked by hand."""

from __future__ import annotations

import pytest

from sourcebook.fusion import fuse
from sourcebook.interfaces import Hit


def hits(*ids: str) -> list[Hit]:
    return [Hit(i, 10.0 - n) for n, i in enumerate(ids)]


def test_the_formula_on_a_worked_example() -> None:
    found = fuse({"lexical": hits("a", "b", "c"), "dense:m": hits("b", "d")}, {}, k=60, method="rrf")
    best = 2 / 61
    assert {f.passage_id: f.score for f in found} == pytest.approx(
        {
            "b": (1 / 62 + 1 / 61) / best,
            "a": (1 / 61) / best,
            "d": (1 / 62) / best,
            "c": (1 / 63) / best,
        }
    )
    assert [f.passage_id for f in found] == ["b", "a", "d", "c"]
    assert found[0].scores == {"lexical": 9.0, "dense:m": 10.0}


def test_first_in_every_leg_is_one() -> None:
    legs = {"a": hits("x", "y"), "b": hits("x")}
    assert fuse(legs, {"a": 0.3, "b": 5}, k=7, method="rrf")[0].score == pytest.approx(1)


def test_a_leg_that_found_nothing_takes_nothing_from_the_others() -> None:
    assert fuse({"a": hits("x"), "b": []}, {})[0].score == pytest.approx(1)


def test_weights_shift_and_zero_switches_off() -> None:
    legs = {"lexical": hits("a", "b"), "dense:m": hits("b", "a")}
    assert [f.passage_id for f in fuse(legs, {"lexical": 2})] == ["a", "b"]
    assert [f.passage_id for f in fuse(legs, {"dense": 2})] == ["b", "a"]
    assert "dense:m" not in fuse(legs, {"dense:m": 0})[0].scores
    assert fuse(legs, {"lexical": 0, "dense": 0}) == []


@pytest.mark.parametrize("name", ["dense:m@second", "dense:m", "dense"])
def test_a_weight_is_found_by_the_whole_name_or_by_less_of_it(name: str) -> None:
    legs = {"lexical@first": hits("a"), "dense:m@second": hits("b")}
    assert fuse(legs, {name: 3.0})[0].passage_id == "b"


def test_a_passage_twice_in_one_leg_counts_where_it_stands_first() -> None:
    twice = fuse({"a": hits("x", "y", "x", "z")}, {}, k=60)
    assert [f.passage_id for f in twice] == ["x", "y", "z"]
    assert [f.score for f in twice] == pytest.approx([1, 61 / 62, 61 / 63])


def test_ties_have_a_stable_order() -> None:
    assert [f.passage_id for f in fuse({"a": hits("y", "x"), "b": hits("x", "y")}, {})] == ["x", "y"]
    assert fuse({}, {}) == []


def test_scores_are_scaled_by_mean_and_three_deviations() -> None:
    legs = {"a": [Hit("x", 3.0), Hit("y", 1.0)], "b": [Hit("y", 30.0), Hit("z", 10.0)]}
    high, low = (1 + 3) / 6, (-1 + 3) / 6  # one deviation from the mean, of three on each side
    found = fuse(legs, {})
    assert {f.passage_id: f.score for f in found} == pytest.approx({"y": (low + high) / 2, "x": high / 2, "z": low / 2})
    assert found[0].ranks == {"a": 2, "b": 1}
    weighted = fuse(legs, {"a": 3})
    assert weighted[0].passage_id == "x"
    assert weighted[0].score == pytest.approx(3 * high / 4)


def test_an_outlier_stands_out_the_best_has_no_more_than_one_and_equal_scores_stand_in_the_middle() -> None:
    far = [Hit("x", 1000.0), Hit("y", 900.0), *(Hit(f"n{i}", 0.0) for i in range(98))]
    even = [Hit(f"e{i}", 7.0) for i in range(3)]
    found = fuse({"a": far, "b": even}, {})
    assert [f.passage_id for f in found[:2]] == ["x", "y"]  # both are more than three deviations out
    scores = {f.passage_id: f.score for f in found}
    assert 0.5 < scores["y"] < scores["x"] < 1.0
    assert fuse({"a": far, "b": [Hit("x", 2.0), Hit("z", 1.0)]}, {})[0].score == 1.0
    assert len({scores[f"e{i}"] for i in range(3)}) == 1


def test_a_single_leg_keeps_its_order_and_the_scores_of_its_ranks() -> None:
    one = {"a": hits("x", "y", "z")}
    assert fuse(one, {}) == fuse(one, {}, method="rrf")
