"""Documents are cut for storage and joined again without a change."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.documents import Document, Warn
from sourcebook.segments import join_segments, segments_of

from .writing import BLOCKS, Blocks, written


@settings(max_examples=50)
@given(BLOCKS, st.integers(1, 30))
def test_cutting_and_joining_gives_the_same_document(blocks: Blocks, size: int) -> None:
    document = written(blocks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sourcebook.segments.SEGMENT", size)
        segments = list(segments_of(document))
    assert join_segments(segments, document.metadata, document.warnings) == document
    assert all(len(s.text) <= size and document.text[s.start : s.end] == s.text for s in segments)
    for segment in segments:
        assert all(segment.start <= b.start < segment.end for b in segment.blocks)
        assert all(segment.start <= x.start < x.end <= segment.end for x in segment.locators)


def test_an_empty_document_is_one_empty_segment() -> None:
    segments = list(segments_of(Document("")))
    assert [(s.start, s.end, s.text) for s in segments] == [(0, 0, "")]
    assert join_segments(segments, {"title": "x"}, (Warn("a", "b"),)) == Document(
        "", metadata={"title": "x"}, warnings=(Warn("a", "b"),)
    )
