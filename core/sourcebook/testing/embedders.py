"""What every embedder must do. Subclass `EmbedderContract` in a test module, and pytest runs it on yours."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from sourcebook.errors import EmbedderError
from sourcebook.interfaces import Embedder
from sourcebook.testing.components import opened
from sourcebook.testing.deadlines import Timely

if TYPE_CHECKING:
    from sourcebook.interfaces import Vectors

TEXTS = ("Water the roses in the morning.", "The invoice is due in May.", "", "Grüße 🌹", "word " * 500)
_WITH_WORDS = tuple(text for text in TEXTS if text)


class EmbedderContract(Timely):
    """The suite. A subclass gives `embedder`, a context in which its model can be reached:

        class TestMine(EmbedderContract):
            @contextmanager
            def embedder(self):
                yield Mine(Mine.Settings())

    `failing` gives one whose server is away; it may be left out by an embedder without a server.
    """

    def embedder(self) -> AbstractContextManager[Embedder[Any]]:
        """An embedder that is not open yet. Called several times, always for the same model."""
        raise NotImplementedError

    def failing(self) -> AbstractContextManager[Embedder[Any]]:
        """An embedder whose `open` or `embed` fails."""
        pytest.skip("this embedder has no server that could fail")

    def embedded(self, *batches: Sequence[str], kind: Literal["passage", "query"] = "passage") -> list[Vectors]:
        """Each batch embedded in turn."""

        async def main(embedder: Embedder[Any]) -> list[Vectors]:
            async with opened(embedder):
                return [await embedder.embed(batch, kind) for batch in batches]

        with self.embedder() as embedder:
            return self._run(f"The embedder {embedder.name!r}", main(embedder))

    def test_spaces_and_identity_are_known_after_open_and_stay(self) -> None:
        async def main(embedder: Embedder[Any]) -> tuple[Any, ...]:
            async with opened(embedder):
                return embedder.spaces, embedder.identity, embedder.max_batch

        seen = []
        for _ in range(2):
            with self.embedder() as embedder:
                seen.append(self._run(f"The embedder {embedder.name!r}", main(embedder)))
        (spaces, identity, max_batch), again = seen
        assert (spaces, identity, max_batch) == again
        assert identity
        assert max_batch >= 1
        assert len({space.name for space in spaces}) == len(spaces) >= 1
        assert all(space.dimensions >= 1 for space in spaces)

    def test_every_space_has_one_float32_row_a_text(self) -> None:
        import numpy as np

        with self.embedder() as embedder:

            async def main() -> None:
                async with opened(embedder):
                    for kind in ("passage", "query"):
                        vectors = await embedder.embed(TEXTS, kind)
                        assert set(vectors) == {space.name for space in embedder.spaces}
                        for space in embedder.spaces:
                            rows = vectors[space.name]
                            assert rows.shape[-1] == space.dimensions
                            assert len(rows) == len(TEXTS)
                            assert rows.dtype == np.float32
                            assert np.isfinite(rows).all()

            self._run(f"The embedder {embedder.name!r}", main())

    def test_no_texts_are_no_rows(self) -> None:
        [vectors] = self.embedded([])
        assert all(len(rows) == 0 for rows in vectors.values())

    def test_a_row_depends_on_its_text_and_not_on_its_neighbours(self) -> None:
        import numpy as np

        together, back, alone = self.embedded(TEXTS[:2], TEXTS[1::-1], TEXTS[1:2])
        for name, rows in together.items():
            np.testing.assert_allclose(rows[1], back[name][0], atol=1e-3)
            np.testing.assert_allclose(rows[1], alone[name][0], atol=1e-3)
            assert not np.allclose(rows[0], rows[1], atol=1e-3)

    def test_a_text_with_words_has_a_direction_as_passage_and_as_query(self) -> None:
        import numpy as np

        for vectors in (self.embedded(TEXTS[:2])[0], self.embedded(TEXTS[:2], kind="query")[0]):
            for rows in vectors.values():
                assert (np.linalg.norm(rows.reshape(-1, rows.shape[-1]), axis=1) > 0).all(), "no length, no cosine"

    def test_every_space_states_its_norm_and_keeps_it(self) -> None:
        import numpy as np

        with self.embedder() as embedder:

            async def main() -> None:
                async with opened(embedder):
                    for space in embedder.spaces:
                        assert space.norm in ("unit", "any"), f"the space {space.name} does not state its norm"
                    for kind in ("passage", "query"):
                        vectors = await embedder.embed(_WITH_WORDS, kind)
                        for space in embedder.spaces:
                            rows = vectors[space.name].reshape(-1, space.dimensions)
                            lengths = np.linalg.norm(rows, axis=1)
                            assert space.norm == "any" or np.allclose(lengths, 1, atol=1e-3), f"{space.name}: {lengths}"

            self._run(f"The embedder {embedder.name!r}", main())

    def test_a_full_batch_is_taken(self) -> None:
        with self.embedder() as embedder:
            size = embedder.max_batch
        [vectors] = self.embedded([f"passage number {n}" for n in range(size)])
        assert all(len(rows) == size for rows in vectors.values())

    def test_a_failure_is_an_embedder_error_with_a_code(self) -> None:
        async def main(embedder: Embedder[Any]) -> EmbedderError:
            with pytest.raises(EmbedderError) as caught:
                async with opened(embedder):
                    await embedder.embed(["word"], "query")
            return caught.value

        with self.failing() as embedder:
            error = self._run(f"The embedder {embedder.name!r}", main(embedder))
        assert error.detail
        assert error.problem_code.startswith("embedder_")
