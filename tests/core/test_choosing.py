"""Which parser reads a file, and who is next when it cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sourcebook import ComponentSettings, Parser, hookimpl
from sourcebook.choosing import Candidate, first_that_reads
from sourcebook.configuration import load
from sourcebook.errors import (
    ConfigError,
    DocumentError,
    Encrypted,
    LimitExceeded,
    Malformed,
    NoText,
    ParserDied,
    PluginError,
    UnsupportedType,
)
from sourcebook.http import Http
from sourcebook.jail import ComponentRef, Parsed
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import PluginInfo, Plugins

from .support import FakeJail, Room, in_a_room

PDF, WORD = b"%PDF-1.7\n", b"PK\x03\x04" + b"\x00" * 40


def parser(parser_name: str, *reads: str, settings: type[ComponentSettings] = ComponentSettings) -> type[Any]:
    """A class that says it reads these extensions and media types."""

    class Made(Parser[ComponentSettings]):
        name = parser_name
        media_types = tuple(r for r in reads if "/" in r)
        extensions = tuple(r for r in reads if "/" not in r)
        Settings = settings

        def parse(self, file: Any, out: Any) -> None:
            raise NotImplementedError

    return Made


class Sized(ComponentSettings):
    size: int = 1


def pipelines(*third_party: type[Any], **overrides: Any) -> Pipelines:
    """Built-in `pdf`, `word` and `text`, and others' parsers."""
    plugins = Plugins(load(environ={}).settings.plugins)
    mine = [
        parser("pdf", ".pdf", "application/pdf", settings=Sized),
        parser("word", ".docx", "application/word"),
        parser("text", ".txt", "text/plain"),
    ]
    for classes, distribution in ((mine, "sourcebook"), (third_party, "acme-formats")):
        module = SimpleNamespace(
            __name__=distribution, register_parsers=hookimpl(lambda classes=classes: list(classes))
        )
        plugins.add(module, PluginInfo(distribution, distribution, "2.5", "off"))
    return Pipelines(plugins, load(environ={}, overrides=overrides), Path(), Http())


def chosen(found: Pipelines, name: str, media_type: str = "", head: bytes = b"", **choice: list[str]) -> list[str]:
    return [c.instance for c in found.parsers_for(name, media_type, choice, head)]


def test_the_extension_counts_more_than_the_media_type() -> None:
    assert chosen(pipelines(), "a.docx", "text/plain") == ["word", "text"]


def test_content_that_says_what_it_is_counts_more_than_the_name() -> None:
    assert chosen(pipelines(), "a.docx", "application/word", PDF) == ["pdf", "word"]
    assert chosen(pipelines(), "a.docx", "application/word", WORD) == ["word"]


def test_content_finds_a_parser_where_name_and_type_say_nothing() -> None:
    assert chosen(pipelines(), "download", "application/octet-stream", PDF) == ["pdf"]
    assert chosen(pipelines(), "README", "application/octet-stream", b"Read me.") == ["text"]


@pytest.mark.parametrize(
    ("name", "media_type", "head"),
    [("a.xyz", "", b"text"), ("a", "image/x-new", b"text"), ("a", "", b"\x00\x01"), ("a", "", b"")],
)
def test_what_nobody_reads_is_refused_with_what_could_be_read(name: str, media_type: str, head: bytes) -> None:
    with pytest.raises(UnsupportedType, match="No installed parser reads") as caught:
        pipelines().parsers_for(name, media_type, {}, head)
    assert "Upload one of: .docx, .pdf, .txt" in caught.value.remedy


def test_third_parties_come_before_the_built_ins_that_match_as_well() -> None:
    found = pipelines(parser("better_pdf", ".pdf", "application/pdf"), parser("by_type", "application/pdf"))
    assert chosen(found, "a.pdf", "application/pdf", PDF) == ["better_pdf", "pdf", "by_type"]


def test_the_pipelines_order_comes_first_and_the_others_stay_in_reserve() -> None:
    found = pipelines(parser("better_pdf", ".pdf", "application/pdf"))
    assert chosen(found, "a.pdf", "", b"", pdf=["pdf", "text"]) == ["pdf", "text", "better_pdf"]
    listed = {"application/pdf": ["text"]}
    assert [c.instance for c in found.parsers_for("x", "", listed, PDF)] == ["text", "better_pdf", "pdf"]


def test_a_listed_instance_stands_for_its_class() -> None:
    found = pipelines(parsers={"large": {"use": "pdf", "size": 9}, "small": {"use": "pdf"}})
    assert chosen(found, "a.pdf", "", b"", pdf=["large", "small"]) == ["large", "small"]
    assert [c.ref.settings for c in found.parsers_for("a.pdf", "", {"pdf": ["large"]})] == [{"size": 9}]


def test_the_identity_tells_name_version_distribution_and_settings() -> None:
    found = pipelines(parser("better", ".pdf"))
    better, pdf = found.parsers_for("a.pdf", "", {})
    assert (better.identity, pdf.identity) == ("better/1 acme-formats 2.5", 'pdf/1{"size":1}')
    assert found.parser_for("a.pdf", "", {}) == better
    assert found.parser_for("a.pdf", "", {}, served=pdf.identity) == pdf
    assert found.parser_for("a.pdf", "", {}, served="gone/7") == better


# Who is next.


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(name, parser(name, ".x"), ComponentRef(name)) for name in names]


def read_by(failures: dict[str, Exception]) -> Any:
    asked: list[str] = []

    async def read(ref: ComponentRef) -> Parsed:
        asked.append(ref.target)
        if ref.target in failures:
            raise failures[ref.target]
        return Parsed((), (), {}, (), (), 0)

    read.asked = asked  # type: ignore[attr-defined]
    return read


@pytest.mark.parametrize(
    "error",
    [
        Malformed("no"),
        NoText("no"),
        ParserDied("no"),
        LimitExceeded("no"),
        UnsupportedType("no"),
        PluginError("it broke its contract"),
    ],
)
def test_the_next_one_is_asked_and_the_document_says_so(error: DocumentError) -> None:
    parsed, served = asyncio.run(first_that_reads(candidates("a", "b", "c"), read_by({"a": error})))
    assert served.instance == "b"
    (warning,) = parsed.warnings
    assert warning.code == "parser_fallback"
    assert f"The parser a could not read this file ({error.problem_code}: {error.detail}); b did." in warning.message


def test_when_all_fail_the_first_error_is_raised_and_names_the_others() -> None:
    read = read_by({"a": Malformed("bad header"), "b": ParserDied("crashed")})
    with pytest.raises(Malformed, match="bad header") as caught:
        asyncio.run(first_that_reads(candidates("a", "b"), read))
    tried = caught.value.problem()["tried"]
    assert [(t["parser"], t["code"]) for t in tried] == [("a", Malformed.code), ("b", "parser_died")]


@pytest.mark.parametrize(
    "error", [Encrypted("password"), ConfigError("strict"), PluginError("busy", transient=True), RuntimeError("ours")]
)
def test_what_another_parser_cannot_help_is_raised_at_once(error: Exception) -> None:
    read = read_by({"a": error})
    with pytest.raises(type(error)):
        asyncio.run(first_that_reads(candidates("a", "b"), read))
    assert read.asked == ["a"]


# In ingestion.


class Choosy(FakeJail):
    """Fails for the parsers in `bad`."""

    bad: tuple[str, ...] = ()

    async def parse(self, path: Path, **options: Any) -> Parsed:
        if options["parser"].target.rpartition(":")[2] in self.bad:
            raise Malformed("not for me")
        return await super().parse(path, **options)


class Keen:
    """A plugin that reads the same files as the fake built-in."""

    __name__ = "keen"

    @hookimpl
    def register_parsers(self) -> list[type[Any]]:
        made = parser("keen", ".txt", "text/plain")
        made.__qualname__ = "Keen"
        return [made]


@in_a_room(plugins=[Keen()], pipeline={"parsers": {"txt": ["keen"]}})
async def test_the_generation_records_which_parser_served_and_why_not_the_first(room: Room) -> None:
    jail = Choosy()
    room.book.wirings.current.ingestion._jail = cast(Any, jail)
    documents = [(await room.source(await room.ready("first.txt", "one"))).document]
    jail.bad = ("Keen",)
    documents.append((await room.source(await room.ready("second.txt", "two"))).document)
    assert [d and d["parser"] for d in documents] == ["keen/1 local", "lines/1 local"]
    assert [[w["code"] for w in d["warnings"]] for d in documents if d] == [[], ["parser_fallback"]]
