"""Embedders, and the vector spaces that they write."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sourcebook.interfaces.components import Component, S

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = Mapping[str, NDArray[np.float32]]
    """Space name -> float32[n, dimensions]."""


@dataclass(frozen=True)
class Space:
    """One vector space that an embedder writes. `kind="multi"` is one vector a token (late interaction).

    `norm` states the length of the row of every text with words: `unit` is 1, `any` is whatever the model gives. An
    embedder has to say it; an index that is told of a space may not care.
    """

    name: str
    dimensions: int
    kind: Literal["dense", "multi"] = "dense"
    distance: Literal["cosine", "dot", "euclid"] = "cosine"
    norm: Literal["unit", "any", ""] = field(default="", compare=False)


class Embedder(Component[S]):
    """Turns texts into vectors.

    `spaces` and `identity` are known after `open`. `identity` changes whenever the vectors would: it keys the cache and
    the index spec. `max_batch` is the most texts of one call.
    """

    spaces: tuple[Space, ...]
    identity: str
    max_batch: int = 64

    @abstractmethod
    async def embed(self, texts: Sequence[str], kind: Literal["passage", "query"]) -> Vectors:
        """float32[len(texts), dimensions] for every space, rows in the order of `texts`. Raises `EmbedderError`."""
