"""BM25 term vectors, cut the same way for the embedded index and for a server: by Qdrant's own code, on our side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import qdrant_edge as edge


class Terms:
    """Cuts texts. An analyzer is called as the points carry it: `multilingual/german`."""

    def __init__(self) -> None:
        self._bm25: dict[str, edge.Bm25] = {}

    def document(self, analyzer: str, text: str) -> edge.SparseVector:
        """The terms of a passage with their weights."""
        return self._of(analyzer).embed_document(text)

    def query(self, analyzer: str, text: str) -> edge.SparseVector:
        """The terms of a question; none for a text without a word."""
        return self._of(analyzer).embed_query(text)

    def _of(self, analyzer: str) -> edge.Bm25:
        if analyzer not in self._bm25:
            import qdrant_edge as edge

            tokenizer, _, language = analyzer.partition("/")
            kinds = {"multilingual": edge.TokenizerType.Multilingual, "word": edge.TokenizerType.Word}
            self._bm25[analyzer] = edge.Bm25(edge.Bm25Config(tokenizer=kinds[tokenizer], language=language))
        return self._bm25[analyzer]
