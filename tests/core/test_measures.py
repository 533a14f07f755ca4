"""Measures on examples worked by hand."""

from __future__ import annotations

import math

import pytest

from sourcebook.evaluation import measures

GOLD = {"a": 2.0, "b": 1.0, "c": 0.0}


def test_ndcg_is_the_discounted_gain_over_that_of_the_best_order() -> None:
    best = 2 + 1 / math.log2(3)
    assert measures.ndcg(["a", "b"], GOLD, 10) == pytest.approx(1)
    assert measures.ndcg(["x", "b", "a"], GOLD, 10) == pytest.approx((1 / math.log2(3) + 2 / 2) / best)
    assert measures.ndcg(["x", "a"], GOLD, 1) == 0
    assert measures.ndcg(["x"], {}, 10) == 0


def test_recall_and_reciprocal_rank_count_what_is_relevant_alone() -> None:
    assert measures.recall(["c", "a"], GOLD, 2) == 0.5
    assert measures.reciprocal_rank(["c", "x", "b"], GOLD, 3) == pytest.approx(1 / 3)
    assert measures.reciprocal_rank(["c", "x", "b"], GOLD, 2) == 0


def test_characters_are_counted_once_however_often_they_are_found() -> None:
    recall, precision = measures.characters([(0, 10), (5, 15), (50, 60)], [(10, 20), (50, 55)])
    assert (recall, precision) == pytest.approx((10 / 15, 10 / 25))
    assert measures.characters([], [(0, 5)]) == (0, 0)


def test_an_interval_holds_the_mean_and_shrinks_with_the_questions() -> None:
    few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 500
    wide, narrow = measures.interval(few), measures.interval(many)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]
    assert measures.interval(few) == wide, "the same at every run"


def test_a_difference_is_told_from_noise() -> None:
    base = [0.1 * (i % 7) for i in range(60)]
    assert measures.difference(base, base) == 1
    assert measures.difference(base, [x + 0.2 for x in base]) < 0.01
    assert measures.difference(base, [x + (0.2 if i % 2 else -0.2) for i, x in enumerate(base)]) > 0.5
