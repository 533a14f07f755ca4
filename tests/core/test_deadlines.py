"""What is under test and hangs: it fails its test, names itself, and the next test is run."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import pytest

from sourcebook import Chunk, Chunker, ComponentSettings, Document, DocumentWriter, Embedder, Parser, ParserFile
from sourcebook.testing.chunkers import ChunkerContract
from sourcebook.testing.deadlines import Overdue, run_timely, timely
from sourcebook.testing.embedders import EmbedderContract
from sourcebook.testing.parsers import ParserContract, parse

SOON = 0.2


def spin() -> None:
    while True:
        pass


def catch_everything() -> None:
    while True:
        with suppress(Exception):
            time.sleep(100)


def look_for_ever() -> None:
    re.match(r"(a+)+$", "a" * 40 + "b")


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@pytest.mark.parametrize("hang", [lambda: time.sleep(100), spin, catch_everything, look_for_ever, wait_for_a_lock])
def test_what_hangs_is_interrupted(hang: Callable[[], None]) -> None:
    began = time.monotonic()
    with pytest.raises(Overdue, match=r"^It was not done within 0\.2 s\. Where it needs longer"):
        timely("It", SOON, hang)
    assert time.monotonic() - began < 5


def test_who_catches_even_the_alarm_is_late_all_the_same() -> None:
    def stubborn() -> str:
        try:
            time.sleep(100)
        except BaseException:
            return "done"
        return "never"

    with pytest.raises(Overdue):
        timely("It", SOON, stubborn)


def test_what_hangs_in_another_thread_is_left_behind() -> None:
    caught: list[BaseException] = []

    def main() -> None:
        try:
            timely("It", SOON, lambda: time.sleep(30))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    thread.join(5)
    assert [type(error) for error in caught] == [Overdue]


def test_what_is_in_time_gives_its_result_and_its_own_errors() -> None:
    assert timely("It", SOON, lambda: 7) == 7
    with pytest.raises(TimeoutError, match="mine"):
        timely("It", SOON, lambda: _raise(TimeoutError("mine")))
    with pytest.raises(TimeoutError, match="mine"):
        run_timely("It", SOON, _fail(TimeoutError("mine")))


def test_an_alarm_that_was_set_before_rings_after() -> None:
    """Such as that of pytest-timeout."""
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    left, every = signal.setitimer(signal.ITIMER_REAL, 2 * SOON)
    try:
        with pytest.raises(Overdue):
            timely("It", SOON, lambda: time.sleep(100))
        assert rung == []
        until = time.monotonic() + 5
        while not rung and time.monotonic() < until:
            time.sleep(0.01)
        assert rung == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left, every)


async def _wait() -> None:
    await asyncio.Event().wait()


async def _hold() -> None:
    time.sleep(100)


async def _deaf() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(100)


async def _fail(error: Exception) -> None:
    raise error


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("hang", [_wait, _hold, _deaf])
def test_what_awaits_for_ever_and_what_holds_the_event_loop_are_interrupted(hang: Callable[[], Any]) -> None:
    with pytest.raises(Overdue, match=r"^It was not done within"):
        run_timely("It", SOON, hang())


# The suites.


class Sleepy(Parser[ComponentSettings]):
    name = "sleepy"
    media_types = ("text/x-sleepy",)
    extensions = (".zzz",)

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        time.sleep(100)


class SleepyChunker(Chunker[ComponentSettings]):
    name = "dozy"

    def chunk(self, document: Document) -> Iterator[Chunk]:
        time.sleep(100)
        yield Chunk(0, 1)


class SleepyEmbedder(Embedder[ComponentSettings]):
    name = "drowsy"

    async def embed(self, texts: Any, kind: Any) -> Any:
        time.sleep(100)


class OfParser(ParserContract):
    deadline: ClassVar[float] = SOON

    def parser(self) -> Sleepy:
        return Sleepy(ComponentSettings())

    def samples(self) -> dict[str, bytes]:
        return {"night.zzz": b"..."}


class OfChunker(ChunkerContract):
    deadline: ClassVar[float] = SOON

    def chunker(self) -> SleepyChunker:
        return SleepyChunker(ComponentSettings())


class OfEmbedder(EmbedderContract):
    deadline: ClassVar[float] = SOON

    @contextmanager
    def embedder(self) -> Iterator[SleepyEmbedder]:
        yield SleepyEmbedder(ComponentSettings())


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (OfParser().test_text_is_normal, "The parser 'sleepy' on night.zzz was not done within 0.2 s"),
        (OfParser().test_nothing_noise_and_halves_fail_well, "The parser 'sleepy' on empty was not done within 0.2 s"),
        (OfParser().test_huge_input_fails_well, "The parser 'sleepy' on huge input was not done within 0.2 s"),
        (OfChunker().test_the_limit_holds, "The chunker 'dozy' on the document 'empty' was not done within 0.2 s"),
        (OfEmbedder().test_no_texts_are_no_rows, "The embedder 'drowsy' was not done within 0.2 s"),
    ],
)
def test_a_suite_names_the_component_the_sample_and_the_deadline(test: Callable[[], None], said: str) -> None:
    with pytest.raises(Overdue, match=re.escape(said)):
        test()


def test_a_parser_that_hangs_in_the_jail_is_told_of_too() -> None:
    from sourcebook.testing.jailed import parse_in_jail
    from sourcebook_plugins.text import TextParser

    # One that the jail can import, so that nothing but the deadline ends it: no process is forked in a millisecond.
    with pytest.raises(Overdue, match=r"The parser 'text' on night\.txt, in the jail, was not done within 0\.001 s"):
        parse_in_jail(TextParser(TextParser.Settings()), b"...", "night.txt", deadline=0.001)


def test_an_authors_own_test_has_the_deadline_too() -> None:
    with pytest.raises(Overdue, match="The parser 'sleepy' on a file"):
        parse(Sleepy(ComponentSettings()), b"...", deadline=SOON)
