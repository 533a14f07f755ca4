"""The contract of a chunker, as tests: subclass `ChunkerContract` and run pytest.

class TestMine(ChunkerContract):
    def chunker(self) -> Chunker:
        return MyChunker(MyChunker.Settings(size=200))

    limit = 200
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sourcebook.documents import BlockKind, Chunk, Document, check_chunks
from sourcebook.interfaces import Chunker
from sourcebook.testing.deadlines import Timely
from sourcebook.writer import DocumentWriter

SCRIPTS = (
    "The watering can stands beside the door. ",
    "Der Gärtner gießt früh; Straßen glänzen. ",
    "植物需要水和光。每天浇水一次。",
    "植物には水が必要です。毎日少しずつ。",
    "النباتات تحتاج إلى الماء والضوء. ",
    "पौधों को पानी चाहिए। ",
    "👩‍👩‍👧‍👦🏳️‍🌈 e\u0301\u0323 ",
)

_KINDS: tuple[BlockKind, ...] = ("heading", "paragraph", "list_item", "table_row", "code", "caption", "footnote")


def documents() -> Mapping[str, Document]:
    """Documents that a chunker must cut well: without blocks, without white space, with every kind of block."""
    return {
        "empty": Document(""),
        "blank": Document(" \n\n \t"),
        "one character": Document("x"),
        "bare text": Document("One line.\n\nAnother, longer line.\n" * 40),
        "one word without end": Document("x" * 5000),
        "scripts": Document("".join(line * 30 for line in SCRIPTS)),
        "blank lines only around": Document("\n\n  ink  \n\n" + " " * 3000 + "more ink" + "\n" * 3000),
        "all kinds": _structured(),
        "headings only": _headings(),
        "chaos": _chaos(),
    }


def _structured() -> Document:
    out = DocumentWriter()
    for top in range(1, 4):
        out.block(f"Part {top}", "heading", 1)
        for sub in range(1, 4):
            out.block(f"Section {top}.{sub}", "heading", 2)
            out.block(SCRIPTS[sub] * (sub * 12))
            for level in (0, 1, 0):
                out.block("- " + SCRIPTS[0] * (level + 1), "list_item", level)
        out.row(["plant", "water"], header=True)
        for n in range(40):
            out.row([f"plant {n}", SCRIPTS[n % len(SCRIPTS)]])
        out.block("```python\n" + "    print('x')\n" * 60 + "```", "code")
        out.block("[^1]: a note", "footnote")
    return out.document()


def _headings() -> Document:
    out = DocumentWriter()
    for n in range(60):
        out.block(f"Heading {n} of level {n % 9 + 1}", "heading", n % 9 + 1)
    return out.document()


def _chaos() -> Document:
    draw = random.Random(7)
    out = DocumentWriter()
    for _ in range(300):
        kind = draw.choice(_KINDS)
        text = "".join(draw.choice("ab cé漢。.\n|\u0301\u200d👩 ") for _ in range(draw.choice((1, 30, 300, 2000))))
        out.block(text, kind, draw.randrange(12))
    return out.document()


class ChunkerContract(Timely):
    """What every chunker keeps. Give `chunker`; set `limit` where it promises that no chunk is longer."""

    limit: ClassVar[int | None] = None

    def chunker(self) -> Chunker[Any]:
        """The chunker under test, built from its settings."""
        raise NotImplementedError("a contract test gives its chunker")

    def more_documents(self) -> Mapping[str, Document]:
        """Documents to cut beside those of `documents()`."""
        return {}

    def _cuts(self) -> list[tuple[str, Document, Sequence[Chunk]]]:
        chunker = self.chunker()
        cases = {**documents(), **self.more_documents()}
        return [(name, document, self._cut(chunker, name, document)) for name, document in cases.items()]

    def _cut(self, chunker: Chunker[Any], name: str, document: Document) -> Sequence[Chunk]:
        what = f"The chunker {type(chunker).name!r} on the document {name!r}"
        return self._timely(what, lambda: list(chunker.chunk(document)))

    def test_chunks_are_ranges_of_the_text_in_order_and_lie_in_their_parents(self) -> None:
        for name, document, chunks in self._cuts():
            try:
                check_chunks(chunks, len(document.text))
            except ValueError as error:
                raise AssertionError(f"{name}: {error}") from error

    def test_no_chunk_is_only_white_space(self) -> None:
        for name, document, chunks in self._cuts():
            assert all(document.text[c.start : c.end].strip() for c in chunks), f"{name}: a chunk holds no ink"

    def test_every_character_of_ink_is_covered(self) -> None:
        for name, document, chunks in self._cuts():
            at = 0
            for chunk in chunks:
                assert not document.text[at : chunk.start].strip(), f"{name}: ink before {chunk.start} is in no chunk"
                at = max(at, chunk.end)
            assert not document.text[at:].strip(), f"{name}: ink after {at} is in no chunk"

    def test_the_limit_holds(self) -> None:
        for name, _, chunks in self._cuts():
            longest = max((c.end - c.start for c in chunks), default=0)
            assert self.limit is None or longest <= self.limit, f"{name}: a chunk of {longest} characters"

    def test_it_is_deterministic(self) -> None:
        assert self._cuts() == self._cuts(), "the same document gives the same chunks"

    def test_context_is_clean_text(self) -> None:
        for name, _, chunks in self._cuts():
            for chunk in chunks:
                chunk.context.encode()  # fails on a lone surrogate
                assert "\x00" not in chunk.context, f"{name}: context has no NUL"
