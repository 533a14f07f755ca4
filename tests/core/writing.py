"""Documents of random blocks, for properties that hold of all."""

from __future__ import annotations

from hypothesis import strategies as st

from sourcebook.documents import Document, Place
from sourcebook.writer import DocumentWriter

Blocks = list[tuple[list[tuple[str, Place | None]], str]]

_LINES = st.sampled_from([Place.on_page(1, (0.0, n, 5.5, n + 10.0)) for n in (0.0, 12.0)])
_OTHERS = st.integers(1, 2).map(lambda n: Place(page=n))


def _pieces(places: st.SearchStrategy[Place]) -> st.SearchStrategy[list[tuple[str, Place | None]]]:
    return st.lists(st.tuples(st.text("ab é\n漢", max_size=40), st.one_of(st.none(), places)), max_size=4)


def _blocks(places: st.SearchStrategy[Place]) -> st.SearchStrategy[Blocks]:
    kinds = st.sampled_from(["heading", "paragraph", "table_row", "code"])
    return st.lists(st.tuples(_pieces(places), kinds), max_size=8)


BLOCKS = st.one_of(_blocks(_LINES), _blocks(_OTHERS), _blocks(st.one_of(_LINES, _OTHERS)))
"""Of lines on pages alone, of other places alone, and of both."""


def written(blocks: Blocks) -> Document:
    """A document of these."""
    out = DocumentWriter()
    for pieces, kind in blocks:
        out.block(pieces, kind)  # type: ignore[arg-type]  # the strategy draws known kinds
    return out.document()
