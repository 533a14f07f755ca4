"""A parser for `.shout`: UTF-8 text whose every line becomes a paragraph in upper case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.errors import Malformed, NoText


class ShoutParser(Parser[ComponentSettings]):
    """Reads `.shout`. A locator is the number of the line. Raises `Malformed` and `NoText`."""

    name = "shout"
    media_types = ("text/x-shout",)
    extensions = (".shout",)

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """One paragraph a line; empty lines are left out."""
        try:
            text = file.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"The file is not UTF-8: {error.reason} at byte {error.start}.") from error
        if not text.strip():
            raise NoText("The file is empty.")
        for number, line in enumerate(text.splitlines(), start=1):
            out.block([(line.upper(), Place(paragraph=number))])


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """The one parser of this distribution."""
    return [ShoutParser]
