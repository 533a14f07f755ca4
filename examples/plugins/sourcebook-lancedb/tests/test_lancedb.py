from collections.abc import Callable
from pathlib import Path
from typing import Any

import sourcebook_lancedb
from sourcebook_lancedb import Lance

from sourcebook import Index
from sourcebook.testing.indexes import IndexContract, context


class TestLance(IndexContract):
    async def open_index(self, folder: Path) -> Index[Any]:
        index = Lance(Lance.Settings())
        await index.open(context(folder))
        return index


def test_a_source_is_found_and_gone_again(sourcebook_in_process: Callable[..., Any]) -> None:
    config = {"pipelines": {"default": {"retrievers": ["lancedb"], "embedder": "fake"}}}
    book = sourcebook_in_process(sourcebook_lancedb, config=config)
    source = book.ingest("harbour.md", b"# Harbour\n\nThe harbour opens at dawn.")
    assert source.state == "ready"
    best = book.search("When does the harbour open?")[0]
    assert "opens at dawn" in best.text
    assert set(best.scores) == {"lexical", "dense:fake"}
    assert book.ask("When does the harbour open?").citations
