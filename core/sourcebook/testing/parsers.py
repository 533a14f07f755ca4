"""The contract of a parser, as tests: subclass `ParserContract` and run pytest.

class TestMine(ParserContract):
    def parser(self) -> Parser:
        return MyParser(MyParser.Settings())

    def samples(self) -> Mapping[str, bytes]:
        return {"note.mine": b"..."}
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from sourcebook.documents import MAX_TEXT, Document, check_document
from sourcebook.errors import DocumentError, ParserDied, PluginError
from sourcebook.interfaces import Parser
from sourcebook.jail import Parsed
from sourcebook.segments import join_segments, segments_of
from sourcebook.testing.deadlines import DEADLINE, Timely, timely
from sourcebook.writer import DocumentWriter


@dataclass
class MemoryFile:
    """A `ParserFile` that is not on any disk."""

    data: bytes
    name: str = "file"
    media_type: str = ""
    password: str | None = None

    def read(self) -> bytes:
        """All bytes."""
        return self.data

    def open(self) -> BinaryIO:
        """A seekable binary stream."""
        return io.BytesIO(self.data)


def parse(
    parser: Parser[Any],
    data: bytes,
    name: str = "",
    *,
    password: str | None = None,
    max_text: int = MAX_TEXT,
    deadline: float = DEADLINE,
) -> Document:
    """What `parser` reads from `data`, checked. Raises what it raises, and `Overdue` after `deadline` seconds."""
    out = DocumentWriter(max_text)
    kind = type(parser)
    file = MemoryFile(data, name or f"file{kind.extensions[0]}", kind.media_types[0], password)
    timely(f"The parser {kind.name!r} on {name or 'a file'}", deadline, lambda: parser.parse(file, out))
    document = out.document()
    check_document(document)
    return document


class ParserContract(Timely):
    """What every parser keeps. Give `parser` and `samples`; `broken` may add files that must fail well."""

    def parser(self) -> Parser[Any]:
        """The parser under test, built from its settings."""
        raise NotImplementedError("a contract test gives its parser")

    def samples(self) -> Mapping[str, bytes]:
        """File name -> bytes of files that hold text; at least one."""
        raise NotImplementedError("a contract test gives its samples")

    def broken(self) -> Mapping[str, bytes]:
        """More bytes that are no such file, beside those that every parser is tried on."""
        return {}

    def _documents(self) -> list[Document]:
        parser, samples = self.parser(), self.samples()
        assert samples, "samples() gives at least one file"
        return [parse(parser, data, name, deadline=self.deadline) for name, data in samples.items()]

    def _error(self, parser: Parser[Any], data: bytes, name: str) -> DocumentError | None:
        try:
            parse(parser, data, name, deadline=self.deadline)
        except DocumentError as error:
            return error
        return None

    def test_it_says_what_it_reads(self) -> None:
        kind = type(self.parser())
        assert kind.name, "a parser has a name"
        assert kind.media_types, "a parser reads at least one media type"
        assert all(t == t.lower() and "/" in t for t in kind.media_types), "media types are lower case, type/subtype"
        assert all(e == e.lower() and e.startswith(".") for e in kind.extensions), "extensions are lower case, with dot"
        assert kind.version >= 1, "versions count from 1"
        assert kind.isolation in ("jail", "worker"), "a parser runs in the jail or in a worker"

    def test_samples_have_text_whose_blocks_and_locators_lie_in_it(self) -> None:
        for document in self._documents():
            assert document.text.strip(), "a sample has text"
            assert document.blocks, "text stands in blocks"

    def test_text_is_normal(self) -> None:
        for document in self._documents():
            assert unicodedata.is_normalized("NFC", document.text), "text is NFC"
            assert "\r" not in document.text, "lines end with LF"
            assert "\x00" not in document.text, "text has no NUL"
            document.text.encode()  # fails on a lone surrogate

    def test_every_character_of_ink_stands_in_a_block(self) -> None:
        for document in self._documents():
            at = 0
            for block in document.blocks:
                assert not document.text[at : block.start].strip(), f"text before {block} stands in no block"
                at = max(at, block.end)
            assert not document.text[at:].strip(), "text at the end stands in no block"

    def test_it_is_deterministic(self) -> None:
        assert self._documents() == self._documents(), "the same bytes give the same document"

    def test_documents_survive_storage(self) -> None:
        for document in self._documents():
            assert join_segments(segments_of(document), document.metadata, document.warnings) == document

    def test_nothing_noise_and_halves_fail_well(self) -> None:
        """Only a `DocumentError`, or a document that keeps the rules."""
        noise = bytes(range(256)) * 16
        broken = {"empty": b"", "blank": b" \n\t", "noise": noise, "nul": b"\x00" * 4096, **self.broken()}
        for name, data in self.samples().items():
            broken |= {f"half of {name}": data[: len(data) // 2], f"{name} with noise": data[:64] + noise}
        parser = self.parser()
        for name, data in broken.items():
            error = self._error(parser, data, name)
            assert error is None or error.detail, f"the error for {name} says what is wrong"

    def test_huge_input_fails_well(self) -> None:
        error = self._error(self.parser(), b"a line of text\n" * (MAX_TEXT // 15 + 2), "huge input")
        assert error is None or error.detail, "the error says what is wrong"

    def test_the_writers_cap_is_not_swallowed(self) -> None:
        parser = self.parser()
        for name, data in self.samples().items():
            try:
                document = parse(parser, data, name, max_text=1, deadline=self.deadline)
            except DocumentError:
                continue
            assert len(document.text) <= 1, "more was written than the writer takes"

    def test_it_reads_the_same_in_the_jail_and_outlives_a_kill(self) -> None:
        """As the server runs it; a child that is killed in the middle costs that file alone."""
        import pytest

        from sourcebook.testing.jailed import parse_in_jail

        parser = self.parser()
        name, data = next(iter(self.samples().items()))
        first = parse_in_jail(parser, data, name, deadline=self.deadline)
        if isinstance(first, PluginError) and "cannot be imported" in first.detail:
            pytest.skip("another process cannot import the module of this parser")
        killed = parse_in_jail(parser, data, name, kill=True, deadline=self.deadline)
        assert isinstance(killed, ParserDied | Parsed), "a kill is told, and waited for by nobody"
        for parsed in (first, parse_in_jail(parser, data, name, deadline=self.deadline)):
            assert isinstance(parsed, Parsed), parsed
            same, here = join_segments(parsed.segments), parse(parser, data, name)  # metadata may gain a language there
            assert (same.text, same.blocks, same.locators) == (here.text, here.blocks, here.locators)
