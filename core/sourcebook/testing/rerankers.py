"""What every reranker must do. Subclass `RerankerContract` in a test module, and pytest runs it on yours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from sourcebook.documents import Passage
from sourcebook.errors import RerankerError
from sourcebook.interfaces import Reranker
from sourcebook.testing.components import opened
from sourcebook.testing.deadlines import Timely

QUESTION = "When should I water the roses?"
TEXTS = ("The invoice is due in May.", "Water the roses in the morning.", "Grüße 🌹", "The roses are red.")


def passage_of(text: str, ordinal: int = 0) -> Passage:
    """A passage with made-up ids."""
    return Passage(f"p{ordinal}", "s", "n", "d", "g", ordinal, 0, len(text), text)


class RerankerContract(Timely):
    """The suite. A subclass gives `reranker`, a context in which its model can be reached; `failing` is optional."""

    def reranker(self) -> AbstractContextManager[Reranker[Any]]:
        """A reranker that is not open yet."""
        raise NotImplementedError

    def failing(self) -> AbstractContextManager[Reranker[Any]]:
        """A reranker whose server is away."""
        pytest.skip("this reranker has no server that could fail")

    def scores(self, texts: Sequence[str]) -> Sequence[float]:
        """The texts' scores for `QUESTION`."""

        async def main(reranker: Reranker[Any]) -> Sequence[float]:
            async with opened(reranker):
                return await reranker.rerank(QUESTION, [passage_of(t, i) for i, t in enumerate(texts)])

        with self.reranker() as reranker:
            return self._run(f"The reranker {reranker.name!r}", main(reranker))

    def test_every_passage_has_one_finite_score(self) -> None:
        scores = self.scores(TEXTS)
        assert len(scores) == len(TEXTS)
        assert all(math.isfinite(score) for score in scores)

    def test_the_passage_that_answers_is_first(self) -> None:
        scores = self.scores(TEXTS)
        assert max(range(len(TEXTS)), key=lambda i: scores[i]) == 1, "higher is better, in the order of the passages"

    def test_the_same_question_gets_the_same_scores(self) -> None:
        assert list(self.scores(TEXTS)) == pytest.approx(list(self.scores(TEXTS)), abs=1e-6)

    def test_scores_follow_their_passages(self) -> None:
        forth, back = self.scores(TEXTS), self.scores(TEXTS[::-1])
        assert list(forth) == pytest.approx(list(back)[::-1], abs=1e-3)

    def test_no_passages_are_no_scores(self) -> None:
        assert list(self.scores([])) == []

    def test_a_failure_is_a_reranker_error_with_a_code(self) -> None:
        async def main(reranker: Reranker[Any]) -> RerankerError:
            with pytest.raises(RerankerError) as caught:
                async with opened(reranker):
                    await reranker.rerank(QUESTION, [passage_of(TEXTS[0])])
            return caught.value

        with self.failing() as reranker:
            error = self._run(f"The reranker {reranker.name!r}", main(reranker))
        assert error.detail
        assert error.problem_code.startswith("reranker_")
