"""Chunks are exact ranges that keep what belongs together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sourcebook import Block, Chunk, Chunker, ComponentSettings, Document
from sourcebook.documents import check_chunks
from sourcebook.errors import PluginError
from sourcebook.testing.chunkers import ChunkerContract, documents
from sourcebook.testing.parsers import parse
from sourcebook.writer import DocumentWriter
from sourcebook_plugins.chunking import (
    MarkdownChunker,
    MarkdownSettings,
    RecursiveChunker,
    RecursiveSettings,
    SentenceChunker,
    SentenceSettings,
    TokenChunker,
    TokenSettings,
)
from sourcebook_plugins.markdown import MarkdownParser

DATA = os.environ.get("SOURCEBOOK_EVAL_DATA", "")


def read(markdown: str) -> Document:
    return parse(MarkdownParser(ComponentSettings()), markdown.encode())


def markdown(document: Document, size: int = 1200, parent_size: int = 4000, overlap: int = 0) -> list[Chunk]:
    settings = MarkdownSettings(size=size, parent_size=parent_size, overlap=overlap)
    return list(MarkdownChunker(settings).chunk(document))


def recursive(document: Document, size: int, overlap: int = 0) -> list[Chunk]:
    return list(RecursiveChunker(RecursiveSettings(size=size, overlap=overlap)).chunk(document))


def texts(document: Document, chunks: list[Chunk]) -> list[str]:
    return [document.text[c.start : c.end] for c in chunks]


class TestRecursive(ChunkerContract):
    limit = 300

    def chunker(self) -> RecursiveChunker:
        return RecursiveChunker(RecursiveSettings(size=300, overlap=0))


class TestRecursiveWithOverlap(ChunkerContract):
    limit = 200

    def chunker(self) -> RecursiveChunker:
        return RecursiveChunker(RecursiveSettings(size=200, overlap=80))


class TestMarkdownChunker(ChunkerContract):
    limit = 300

    def chunker(self) -> MarkdownChunker:
        return MarkdownChunker(MarkdownSettings(size=300, overlap=0))


class TestMarkdownWithOverlap(ChunkerContract):
    limit = 300

    def chunker(self) -> MarkdownChunker:
        return MarkdownChunker(MarkdownSettings(size=300, overlap=100))


class TestTinyMarkdownChunks(ChunkerContract):
    limit = 50

    def chunker(self) -> MarkdownChunker:
        return MarkdownChunker(MarkdownSettings(size=50, overlap=0, parent_size=100))

    def more_documents(self) -> Mapping[str, Document]:
        # A third party's blocks may overlap or leave text out.
        return {"odd blocks": Document("abc " * 50, (Block(4, 60, "code"), Block(30, 90, "heading", 1)))}


class TestSentences(ChunkerContract):
    limit = 300

    def chunker(self) -> SentenceChunker:
        return SentenceChunker(SentenceSettings(size=300))


class TestOverlappingSentences(ChunkerContract):
    limit = 50

    def chunker(self) -> SentenceChunker:
        return SentenceChunker(SentenceSettings(size=50, sentences=4, overlap=2, parent_size=100))


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer, trained here on a little text."""
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["The watering can stands beside the door. Water the fern."] * 50, trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.mark.parametrize("kind", ["recursive", "markdown", "sentence", "tokens"])
def test_sizes_in_tokens_are_kept_by_every_chunker(tokenizer: Path, kind: str) -> None:
    from tokenizers import Tokenizer

    chunkers: dict[str, Chunker[Any]] = {
        "recursive": RecursiveChunker(RecursiveSettings(size=60, overlap=10, tokenizer=tokenizer)),
        "markdown": MarkdownChunker(MarkdownSettings(size=60, parent_size=200, tokenizer=tokenizer)),
        "sentence": SentenceChunker(SentenceSettings(size=60, tokenizer=tokenizer)),
        "tokens": TokenChunker(TokenSettings(size=60, overlap=10, tokenizer=tokenizer)),
    }
    chunker = chunkers[kind]
    counter = Tokenizer.from_file(str(tokenizer))
    for name, document in documents().items():
        chunks = list(chunker.chunk(document))
        check_chunks(chunks, len(document.text))
        covered = {i for c in chunks for i in range(c.start, c.end)}
        assert all(i in covered for i, c in enumerate(document.text) if not c.isspace()), name
        sizes = [len(set(counter.encode(part).offsets)) for part in texts(document, chunks)]
        assert max(sizes, default=0) <= 62, name  # a word that is cut may be one token more at each end


def test_tokens_are_cut_between_words_and_overlap(tokenizer: Path) -> None:
    document = Document("Water the fern every day. " * 40)
    chunks = list(TokenChunker(TokenSettings(size=50, overlap=10, tokenizer=tokenizer)).chunk(document))
    assert all(a.start < b.start < a.end for a, b in pairwise(chunks))
    words = {word for part in texts(document, chunks) for word in part.split()}
    assert words == {"Water", "the", "fern", "every", "day."}


def test_a_tokenizer_that_is_missing_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    chunker = TokenChunker(TokenSettings(tokenizer=tmp_path / "none.json"))
    with pytest.raises(PluginError) as caught:
        list(chunker.chunk(Document("Words.")))
    assert caught.value.remedy


def test_a_window_of_sentences_has_its_paragraph_as_parent() -> None:
    document = read("# Care\n\nOne is here. Two is here. Three is here. Four is here.\n\n- a list\n\nAlone.")
    chunks = list(SentenceChunker(SentenceSettings(sentences=2, size=100)).chunk(document))
    parts = texts(document, chunks)
    assert parts == ["Care\n\nOne is here. Two is here.", "Three is here. Four is here.", "- a list", "Alone."]
    paragraph = (0, document.text.index("\n\n- a"))
    assert [c.parent for c in chunks] == [paragraph, paragraph, None, None]
    assert [c.context for c in chunks] == ["", "Care", "Care", "Care"]


def test_windows_of_sentences_overlap_by_whole_sentences() -> None:
    document = Document("One is here. Two is here. Three is here. Four is here.")
    chunks = list(SentenceChunker(SentenceSettings(sentences=2, overlap=1, size=100)).chunk(document))
    assert texts(document, chunks) == [
        "One is here. Two is here.",
        "Two is here. Three is here.",
        "Three is here. Four is here.",
    ]


BLOCKS = st.lists(
    st.tuples(
        st.text("ab .。\n漢é\u0301\u200d|", min_size=1, max_size=120),
        st.sampled_from(["heading", "paragraph", "list_item", "table_row", "code"]),
        st.integers(0, 12),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(BLOCKS, st.integers(50, 120), st.integers(0, 25))
def test_any_document_is_cut_into_ranges_that_cover_its_ink(
    blocks: list[tuple[str, str, int]], size: int, overlap: int
) -> None:
    out = DocumentWriter()
    for text, kind, level in blocks:
        out.block(text, kind, level)  # type: ignore[arg-type]  # the strategy draws known kinds
    document = out.document()
    windows = SentenceSettings(size=size, sentences=3, overlap=overlap % 3)
    sentence = list(SentenceChunker(windows).chunk(document))
    lapped = markdown(document, size, 200, overlap)
    for chunks in (markdown(document, size, 200), lapped, recursive(document, size, overlap), sentence):
        check_chunks(chunks, len(document.text))
        covered = {i for c in chunks for i in range(c.start, c.end)}
        assert all(i in covered for i, c in enumerate(document.text) if not c.isspace())
        assert all(c.end - c.start <= size for c in chunks)
        assert all(part.strip() == part for part in texts(document, chunks))


def test_a_section_that_fits_is_one_chunk_below_the_path_of_its_headings() -> None:
    document = read("# Guide\n\n" + "Intro words here. " * 10 + "\n\n## Care\n\n" + "Water it well. " * 12)
    chunks = markdown(document, 250)
    assert [c.context for c in chunks] == ["", "Guide"]
    assert texts(document, chunks)[1].startswith("Care\n\nWater")


def test_the_rest_of_a_cut_section_has_its_own_heading_in_the_context() -> None:
    document = read("# Guide\n\n## Care\n\n### Watering\n\n" + "Water the fern every day. " * 40)
    contexts = [c.context for c in markdown(document, 300)]
    assert contexts[0] == ""
    assert set(contexts[1:]) == {"Guide > Care > Watering"}


def test_top_sections_are_not_mixed_and_small_neighbours_below_one_heading_are() -> None:
    text = "".join(
        f"# Top {n}\n\n" + "".join(f"## Sub {n}.{m}\n\nA short note.\n\n" for m in range(3)) for n in range(3)
    )
    document = read(text)
    assert [part.split("\n")[0] for part in texts(document, markdown(document, 300))] == ["Top 0", "Top 1", "Top 2"]


def test_a_heading_never_ends_a_chunk_whose_section_goes_on() -> None:
    document = read("".join(f"## H{n}\n\n" + "Some words stand here. " * n + "\n\n" for n in range(1, 30)))
    for chunks in (markdown(document, 200), recursive(document, 200)):
        assert not any(part.split("\n")[-1].startswith("H") for part in texts(document, chunks))


def test_a_heading_without_text_of_its_own_stays_with_the_first_section_below() -> None:
    document = read("# Title\n\n## First\n\n" + "Words of the first. " * 20 + "\n\n## Second\n\n" + "More words. " * 40)
    first = texts(document, markdown(document, 500))[0]
    assert first.startswith("Title\n\nFirst\n\nWords")


def test_a_table_and_a_fence_that_fit_are_not_cut() -> None:
    table = "| a | b |\n| --- | --- |\n" + "".join(f"| row {n} | value {n} |\n" for n in range(12))
    fence = "```\n" + "call()\n" * 30 + "```"
    document = read("Words before. " * 14 + f"\n\n{table}\n" + "Words between. " * 14 + f"\n\n{fence}\n")
    parts = texts(document, markdown(document, 300))
    assert sum(part.count("| row") for part in parts if "| row 0 |" in part) == 12
    assert any(part.count("```") == 2 for part in parts)


def test_a_cut_table_is_cut_between_rows_and_repeats_its_header_as_context() -> None:
    rows = "".join(f"| plant {n} | {n * 7} litres a day |\n" for n in range(60))
    document = read(f"# Plants\n\n| name | water |\n| --- | --- |\n{rows}")
    chunks = markdown(document, 400)
    assert len(chunks) > 3
    for chunk, part in zip(chunks[1:], texts(document, chunks)[1:], strict=True):
        assert chunk.context == "Plants\n| name | water |\n| --- | --- |"
        assert all(line.startswith("| plant") and line.endswith(" |") for line in part.split("\n"))


def test_the_parent_is_the_section_around_the_chunk_while_it_is_small_enough() -> None:
    document = read("# Guide\n\nIntro.\n\n## Care\n\n" + "Water it often and well. " * 40)
    care = next(b.start for b in document.blocks if document.text.startswith("Care", b.start))
    for chunk in markdown(document, 300, parent_size=2000)[1:]:
        assert chunk.parent == (care, len(document.text))
    assert all(c.parent is None for c in markdown(document, 300, parent_size=500)[1:])


def test_long_text_is_cut_between_sentences() -> None:
    document = read("This is a sentence about the garden. " * 60)
    assert all(part.endswith("garden.") for part in texts(document, recursive(document, 200)))


def test_text_without_sentences_is_cut_between_words_and_words_only_when_they_are_too_long() -> None:
    document = Document("word " * 100 + "x" * 500)
    parts = texts(document, recursive(document, 100))
    assert all(set(part.split()) <= {"word"} or "x" in part for part in parts)
    assert sum(part.count("x") for part in parts) == 500


def test_a_letter_is_not_parted_from_its_marks_nor_a_joined_emoji_cut() -> None:
    family = "👩‍👩‍👧‍👦"
    for text in ("q\u0303" * 300, family * 60):
        parts = texts(Document(text), recursive(Document(text), 50))
        assert not any(part[0] in "\u0303\u200d" or part[-1] == "\u200d" for part in parts)


def test_an_overlap_begins_with_whole_sentences_of_the_chunk_before() -> None:
    document = read("".join(f"Sentence number {n} stands here. " for n in range(60)))
    chunks = recursive(document, 200, 80)
    for before, after in pairwise(chunks):
        assert after.start < before.end
        assert document.text[after.start :].startswith("Sentence")
    assert all(c.end - c.start <= 200 for c in chunks)


def test_an_overlap_stays_in_its_section_and_cuts_no_row() -> None:
    rows = "".join(f"| plant {n} | water it on day {n} |\n" for n in range(40))
    document = read(f"# Care\n\nBefore the table.\n\n# Table\n\n| plant | water |\n|---|---|\n{rows}")
    chunks = markdown(document, 300, overlap=100)
    second = document.text.index("Table")
    assert all(c.end <= second or c.start >= second for c in chunks)
    inside = [c for c in chunks if c.start > second]
    assert all(document.text[c.start] == "|" and document.text[c.start - 1] == "\n" for c in inside)
    assert any(a.end > b.start for a, b in pairwise(inside))
    assert all("| plant | water |" in c.context for c in inside)


def test_a_quarter_overlaps_where_nothing_else_is_said() -> None:
    assert (RecursiveSettings(size=100).lap, MarkdownSettings().lap, MarkdownSettings(overlap=0).lap) == (25, 200, 0)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 200, "overlap": 150}, {"overlap": -1}, {"sise": 3}])
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        RecursiveSettings.model_validate(wrong)


@pytest.mark.skipif(not DATA, reason="SOURCEBOOK_EVAL_DATA is not set")
def test_real_markdown_files_are_covered() -> None:
    files = sorted(Path(DATA, "documents", "md").glob("*.md"))
    assert files
    for path in files:
        document = parse(MarkdownParser(ComponentSettings()), path.read_bytes(), path.name)
        chunks = markdown(document)
        check_chunks(chunks, len(document.text))
        assert sum(len("".join(t.split())) for t in texts(document, chunks)) == len("".join(document.text.split()))
