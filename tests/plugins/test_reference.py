"""The real documents: the 31 with another tool's reading beside them, word for word, and what became of all 83.

SOURCEBOOK_EVAL_DATA names the folder that holds `documents/`; without it these tests are skipped. Both tables are
checked in, without a word of the documents: `python -m tests.plugins.test_reference` writes them anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sourcebook.errors import DocumentError
from sourcebook.languages import with_language
from sourcebook.testing.parsers import parse
from sourcebook_plugins.hypertext import HtmlSettings
from sourcebook_plugins.pdf import PdfSettings
from tests.plugins.fidelity import fidelity, recall, words
from tests.plugins.test_gold import PARSERS

DATA = os.environ.get("SOURCEBOOK_EVAL_DATA", "")
FOLDER = Path(DATA, "documents")
FIDELITY = Path(__file__).with_name("fidelity.json")
OUTCOMES = Path(__file__).with_name("outcomes.json")
LINKS = r"\]\([^)]*\)|<!--.*?-->"
REMARKS = r"\[author: [^\]]*\]: [^\n]*"

needs_data = pytest.mark.skipif(not DATA, reason="SOURCEBOOK_EVAL_DATA names no folder of real documents")


def manifest() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "manifest.jsonl").read_text().splitlines() if line.strip()]


def outcome(entry: dict[str, Any]) -> dict[str, Any]:
    """What became of a document, in counts: nothing of its text."""
    path = FOLDER / entry["file"]
    kind = PARSERS[path.suffix[1:]]
    # The table is the same with and without the extra `ocr`.
    settings = PdfSettings(ocr=False) if path.suffix == ".pdf" else kind.Settings()
    try:
        document = parse(kind(settings), path.read_bytes(), path.name, password=entry.get("password"))
    except DocumentError as error:
        return {"problem": error.problem_code}
    blocks: dict[str, int] = {}
    for block in document.blocks:
        blocks[block.kind] = blocks.get(block.kind, 0) + 1
    language = with_language(document.metadata, document.text).get("language", "")
    found: dict[str, Any] = {"words": len(words(document.text)), "language": language, "blocks": blocks}
    if document.warnings:
        found["warnings"] = sorted({w.code for w in document.warnings})
    return found


def score(entry: dict[str, Any]) -> dict[str, float]:
    """Order-aware fidelity to the reference, and the part of its words that was found in order."""
    import re

    path = FOLDER / entry["file"]
    kind = PARSERS[path.suffix[1:]]
    # The reference has a page's menus too.
    settings = {".html": HtmlSettings(navigation=True, main=False), ".pdf": PdfSettings(ocr=False)}.get(
        path.suffix, kind.Settings()
    )
    parser = kind(settings)
    try:
        text = parse(parser, path.read_bytes(), path.name).text
    except DocumentError:
        text = ""
    unread = LINKS if path.suffix == ".xlsx" else f"{LINKS}|{REMARKS}"  # comments of text documents are left out
    expected = re.sub(unread, " ", (FOLDER / entry["reference_text"]).read_text())
    return {"fidelity": round(fidelity(expected, text), 3), "recall": round(recall(expected, text), 3)}


@needs_data
def test_every_document_ends_as_the_table_says() -> None:
    kept = json.loads(OUTCOMES.read_text())
    found = {entry["file"]: outcome(entry) for entry in manifest()}
    assert len(found) == 83
    assert found.keys() == kept.keys()
    assert {name: f for name, f in found.items() if f != kept[name]} == {}


@needs_data
def test_no_document_is_read_less_faithfully_than_the_table_says() -> None:
    kept = json.loads(FIDELITY.read_text())
    scores = {entry["file"]: score(entry) for entry in manifest() if "reference_text" in entry}
    assert len(scores) == 31
    worse = {
        name: (found, kept[name])
        for name, found in scores.items()
        if found["fidelity"] < kept[name]["fidelity"] - 0.005 or found["recall"] < kept[name]["recall"] - 0.005
    }
    assert worse == {}


def write() -> None:
    """Write both tables anew."""
    entries = manifest()
    outcomes = {entry["file"]: outcome(entry) for entry in entries}
    scores = {entry["file"]: score(entry) for entry in entries if "reference_text" in entry}
    for path, table in ((OUTCOMES, outcomes), (FIDELITY, scores)):
        lines = (f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(table.items()))
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write()
