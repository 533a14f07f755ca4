"""The parser jail from outside: what goes in, what comes out, and what is left of a process that behaved badly."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sourcebook.confinement import missing
from sourcebook.documents import Chunk, Document, Place
from sourcebook.errors import (
    ConfigError,
    Encrypted,
    LimitExceeded,
    Malformed,
    NoText,
    ParserDied,
    PluginError,
)
from sourcebook.jail import ComponentRef, Jail, JailLimits, Parsed
from sourcebook.jail_frames import HEADER, MAX_FRAME, MESSAGE
from sourcebook.segments import join_segments
from sourcebook.writer import DocumentWriter

HERE = Path(__file__).parent
LINES = ComponentRef("jail_parsers:Lines")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is left of a process is read from /proc")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "document"
    path.write_text("first line\nsecond line")
    return path


def jail_of(limits: JailLimits | None = None, **options: Any) -> Jail:
    return Jail(limits or JailLimits(), ["jail_parsers"], search_path=[HERE, *options.pop("folders", ())], **options)


def opened(runner: asyncio.Runner, jail: Jail) -> Iterator[Jail]:
    yield jail
    pid = server_of(jail)
    runner.run(jail.close())
    assert pid not in descendants(), "a closed jail leaves no process"


@pytest.fixture(scope="module")
def jail(runner: asyncio.Runner) -> Iterator[Jail]:
    yield from opened(runner, jail_of())


@pytest.fixture(scope="module")
def hasty(runner: asyncio.Runner) -> Iterator[Jail]:
    """Half a second a document."""
    yield from opened(runner, jail_of(JailLimits(wall_seconds=0.5)))


@pytest.fixture(scope="module")
def narrow(runner: asyncio.Runner) -> Iterator[Jail]:
    """One second of processor time, 8 MiB of output, 256 MiB of memory."""
    yield from opened(runner, jail_of(JailLimits(cpu_seconds=1, output=8 << 20, memory=256 << 20)))


@pytest.fixture(scope="module")
def open_jail(runner: asyncio.Runner) -> Iterator[Jail]:
    """Without any confinement but the time limit: what the server alone must see to."""
    yield from opened(runner, jail_of(JailLimits(wall_seconds=20), layers=()))


async def parse(jail: Jail, path: Path, parser: ComponentRef = LINES, chunker: ComponentRef | None = None) -> Parsed:
    return await jail.parse(path, name="a name.test", media_type="text/x-test", parser=parser, chunker=chunker)


def act(name: str, argument: object = "") -> ComponentRef:
    return ComponentRef("jail_parsers:Act", {"act": name, "argument": str(argument)})


async def result(jail: Jail, path: Path, name: str, argument: object = "") -> str:
    parsed = await parse(jail, path, act(name, argument))
    return parsed.segments[0].text.removeprefix("Result: ")


def expected(text: str) -> Document:
    """What `jail_parsers.Lines` writes."""
    out = DocumentWriter()
    for number, line in enumerate(text.split("\n"), 1):
        out.block([(line, Place(page=number, box=(1, 2.5, 3, 4), path=("Größe", "b")))])
    out.meta(title="a name.test", type="text/x-test", size=len(text.encode()))
    out.warn("odd", "nothing is wrong")
    return out.document()


def descendants() -> set[int]:
    """Every living process that stems from this one."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def server_of(jail: Jail) -> int:
    assert jail._server is not None
    return jail._server._process.pid


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def fails(runner: asyncio.Runner, work: Coroutine[Any, Any, object], kind: type[Exception]) -> Any:
    with pytest.raises(kind) as caught:
        runner.run(work)
    assert type(caught.value) is kind
    return caught.value


# What arrives.


@pytest.mark.parametrize("text", ["first line\nsecond line", 'äöü 𝔘𝔫𝔦 \\" \t x\n' * 14_500], ids=["short", "200k"])
def test_a_document_arrives_exactly(runner: asyncio.Runner, jail: Jail, tmp_path: Path, text: str) -> None:
    path = tmp_path / "document"
    path.write_text(text)
    parsed = runner.run(parse(jail, path))
    document = expected(text)
    assert join_segments(parsed.segments, parsed.metadata, parsed.warnings) == document
    assert parsed.length == len(document.text)
    assert parsed.chunks == ()


def test_pages_are_told_as_they_arrive(runner: asyncio.Runner, jail: Jail, tmp_path: Path) -> None:
    path, told = tmp_path / "document", list[int]()
    path.write_text("a line\n" * 30_000 + "the last")
    reading = jail.parse(path, name="a.test", media_type="text/x-test", parser=LINES, reached=told.append)
    runner.run(reading).close()
    assert told == sorted(told)
    assert len(told) > 2
    assert told[-1] == 30_001


def test_chunks_come_with_the_document_and_again_from_what_is_stored(
    runner: asyncio.Runner, jail: Jail, tmp_path: Path
) -> None:
    path = tmp_path / "document"
    path.write_text("a line of 𝔱𝔢𝔵𝔱\n" * 10_000)
    words = ComponentRef("jail_parsers:Words", {"size": 50})
    parsed = runner.run(parse(jail, path, chunker=words))
    size = parsed.length
    assert parsed.chunks == tuple(
        Chunk(start, min(start + 50, size), "a name.test", (0, size)) for start in range(0, size, 50)
    )
    assert runner.run(jail.chunk(parsed.segments, parsed.metadata, words)) == parsed.chunks


def test_members_arrive_and_need_no_text(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    parsed = runner.run(parse(jail, file, ComponentRef("jail_parsers:Members")))
    members = [(m.name, m.size, b"".join(m.pieces)) for m in parsed.members]
    assert members == [("empty.txt", 0, b""), ("large.bin", 2_560_000, bytes(range(256)) * 10_000)]
    assert parsed.length == 0


def test_a_page_is_drawn_with_its_boxes(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    image = runner.run(
        jail.render(file, name="x", media_type="text/x-test", parser=LINES, page=7, boxes=[(1, 2, 3.5, 4)])
    )
    assert image == b"\x89PNG\r\n\x1a\n7 ((1.0, 2.0, 3.5, 4.0),) first line\nsecond line" + bytes(3_000_000)


def test_a_page_that_is_no_png_is_the_parsers_fault(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    parser = ComponentRef("jail_parsers:Drawer")
    error = fails(runner, jail.render(file, name="x", media_type="t", parser=parser, page=1, boxes=[]), PluginError)
    assert "PNG" in error.detail


def test_a_password_reaches_the_parser(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    parsed = runner.run(jail.parse(file, name="x", media_type="t", parser=LINES, password="sesame"))
    assert parsed.metadata["password"] == "sesame"


def test_white_space_alone_is_no_text(runner: asyncio.Runner, jail: Jail, tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_text(" \n\t\n")
    fails(runner, parse(jail, path, chunker=ComponentRef("jail_parsers:Words")), NoText)


def test_more_documents_than_slots_all_arrive(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    async def many() -> list[Parsed]:
        return await asyncio.gather(*(parse(jail, file) for _ in range(12)))

    assert {parsed.length for parsed in runner.run(many())} == {len("first line\n\nsecond line")}


def test_every_document_has_its_own_process(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    assert runner.run(result(jail, file, "pid")) != runner.run(result(jail, file, "pid"))


@pytest.fixture
def patient(jail: Jail, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However busy the machine is, the next document comes in time."""
    monkeypatch.setattr("sourcebook.jail_kept._IDLE", 600.0)
    yield
    jail._kept.close()


async def shared(jail: Jail, path: Path, name: str, notebook: str = "nb_1", **how: Any) -> str:
    """What a memory-safe parser's act gives, in a process that may read others of the notebook."""
    parser = replace(act(name), memory_safe=True)
    given = {"name": "a name.test", "media_type": "text/x-test", "parser": parser, "together": notebook, **how}
    parsed = await jail.parse(path, **given)
    return parsed.segments[0].text.removeprefix("Result: ")


@pytest.mark.usefixtures("patient")
def test_short_files_of_a_notebook_share_a_process(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    first = runner.run(shared(jail, file, "pid"))
    assert [runner.run(shared(jail, file, "pid")) for _ in range(5)] == [first] * 5
    assert runner.run(shared(jail, file, "pid", "nb_2")) != first, "another notebook"
    assert runner.run(shared(jail, file, "pid", password="sesame")) != first
    assert runner.run(shared(jail, file, "pid", parser=act("pid"))) != first, "not memory-safe"
    assert runner.run(shared(jail, file, "pid", chunker=ComponentRef("jail_parsers:Words"))) != first
    assert runner.run(shared(jail, file, "pid", "")) != first
    assert runner.run(shared(jail, file, "pid")) == first


def test_each_of_them_arrives_exactly(runner: asyncio.Runner, jail: Jail, tmp_path: Path) -> None:
    parser = replace(LINES, memory_safe=True)
    for text in ("one", "two\nlines", "three" * 1000):
        path = tmp_path / text[:3]
        path.write_text(text)
        given: dict[str, Any] = {"name": "a name.test", "media_type": "text/x-test", "parser": parser}
        parsed = runner.run(jail.parse(path, together="nb_9", **given))
        assert join_segments(parsed.segments, parsed.metadata, parsed.warnings) == expected(text)


def test_a_shared_process_ends_after_so_many_documents_and_when_nothing_comes(
    runner: asyncio.Runner, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sourcebook.jail_kept.MOST", 3)
    monkeypatch.setattr("sourcebook.jail_kept._IDLE", 600.0)

    async def scene() -> None:
        jail = jail_of()
        try:
            counts = [await shared(jail, file, "used") for _ in range(7)]
            assert counts == ["1", "2", "3", "1", "2", "3", "1"]
            jail._kept.close()
            monkeypatch.setattr("sourcebook.jail_kept._IDLE", 0.01)
            await shared(jail, file, "used")
            await until(lambda: len(children_of(server_of(jail))) == 1)  # the one that waits for the next document
        finally:
            await jail.close()

    runner.run(scene())


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("act", ["fail_if_used", "malformed_if_used", "segfault_if_used", "loop_if_used"])
def test_what_goes_wrong_in_a_shared_process_is_read_again_in_its_own(
    runner: asyncio.Runner, file: Path, act: str
) -> None:
    async def scene() -> None:
        jail = jail_of(JailLimits(cpu_seconds=1))
        try:
            for _ in range(3):
                assert await shared(jail, file, "used") == "1"
                assert await shared(jail, file, act) == "1", "as if it had been read alone"
                assert await shared(jail, file, "used") == "2", "and that process reads on"
                jail._kept.close()
        finally:
            await jail.close()

    runner.run(scene())


def test_a_bad_document_ends_a_shared_process_with_its_own_error(
    runner: asyncio.Runner, jail: Jail, file: Path
) -> None:
    first = runner.run(shared(jail, file, "pid"))
    error = fails(runner, shared(jail, file, "segfault"), ParserDied)
    assert error.details["signal"] == "SIGSEGV"
    assert runner.run(shared(jail, file, "pid")) != first


def test_cancelling_ends_a_shared_process(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    async def cancelled() -> None:
        await shared(jail, file, "pid")
        task = asyncio.create_task(shared(jail, file, "sleep"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(children_of(server_of(jail))) == 1)

    runner.run(cancelled())
    assert runner.run(shared(jail, file, "used")) == "1"


def test_a_new_python_for_every_document_works_too(runner: asyncio.Runner, file: Path) -> None:
    async def both() -> tuple[Parsed, str]:
        jail = jail_of(fork=False)
        try:
            return await parse(jail, file), await result(jail, file, "open_files")
        finally:
            await jail.close()

    parsed, files = runner.run(both())
    assert join_segments(parsed.segments, parsed.metadata, parsed.warnings) == expected(file.read_text())
    assert files == "[0, 1, 2, 3, 4, 5]"


# What goes wrong.


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("segfault", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("leave", "status 3"),
        ("sys_exit", "SystemExit: enough"),
        ("no_such_deed", "AttributeError"),
    ],
)
def test_a_crash_is_parser_died_and_the_next_document_is_read(
    runner: asyncio.Runner, jail: Jail, file: Path, deed: str, said: str
) -> None:
    server = runner.run(jail.layers()) and server_of(jail)
    assert said in fails(runner, parse(jail, file, act(deed)), ParserDied).detail
    assert runner.run(parse(jail, file)).length
    assert server_of(jail) == server


def test_an_exception_is_told_short_and_without_our_folders(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    detail = fails(runner, parse(jail, file, act("raise_value")), ParserDied).detail
    assert "ValueError: cannot read …/x.py xxx" in detail
    assert str(HERE) not in detail
    assert len(detail) < 400


def test_a_chunkers_exception_is_told_as_the_chunkers(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    error = fails(runner, parse(jail, file, chunker=ComponentRef("jail_parsers:Failing")), ParserDied)
    assert error.detail == "The chunker failed on this file: KeyError: 'second'"


def test_a_document_error_stays_itself(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    error = fails(runner, parse(jail, file, act("raise_document")), Malformed)
    assert error.problem() == {
        "code": "mine",
        "title": "The file is damaged",
        "detail": "Page 3 is broken.",
        "remedy": "Save it again.",
        "page": 3,
    }


def test_details_that_are_no_json_are_dropped(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    error = fails(runner, parse(jail, file, act("raise_odd_details")), Encrypted)
    assert (error.problem_code, error.details) == ("password_wrong", {})


@pytest.mark.parametrize("deed", ["loop", "sleep"])
def test_wall_clock_ends_a_parser(runner: asyncio.Runner, hasty: Jail, file: Path, deed: str) -> None:
    assert fails(runner, parse(hasty, file, act(deed)), LimitExceeded).details["what"] == "time"


def test_processor_time_ends_a_parser(runner: asyncio.Runner, narrow: Jail, file: Path) -> None:
    error = fails(runner, parse(narrow, file, act("loop")), LimitExceeded)
    assert (error.problem_code, error.details) == ("timeout", {"what": "cpu", "limit": 1})


@pytest.mark.parametrize("deed", ["memory", "memory_slowly", "memory_as_damage", "memory_as_cause"])
def test_memory_ends_a_parser(runner: asyncio.Runner, narrow: Jail, file: Path, deed: str) -> None:
    error = fails(runner, parse(narrow, file, act(deed)), LimitExceeded)
    assert error.details == {"what": "memory", "limit": 256 << 20}


def test_a_parser_that_runs_out_of_stack_says_so(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    error = fails(runner, parse(jail, file, act("recurse")), LimitExceeded)
    assert error.problem_code == "nested_too_deeply"
    assert error.remedy


def test_output_ends_a_parser(runner: asyncio.Runner, narrow: Jail, file: Path) -> None:
    error = fails(runner, parse(narrow, file, ComponentRef("jail_parsers:Flood")), LimitExceeded)
    assert error.details == {"what": "output", "limit": 8 << 20}
    runner.run(until(lambda: len(children_of(server_of(narrow))) == 1))  # the one that waits for the next document


def test_a_child_waits_for_the_next_document_and_its_death_is_no_loss(
    runner: asyncio.Runner, jail: Jail, file: Path
) -> None:
    first = runner.run(result(jail, file, "pid"))
    for _ in range(10):
        runner.run(until(lambda: len(children_of(server_of(jail))) == 1))
        [waiting] = children_of(server_of(jail))
        assert waiting != first
        assert runner.run(result(jail, file, "pid")) == waiting
        runner.run(until(lambda: len(children_of(server_of(jail))) == 1))
        [killed] = children_of(server_of(jail))
        os.kill(int(killed), signal.SIGKILL)  # the next document may come before the server knows of it
        assert runner.run(result(jail, file, "pid")) not in (waiting, killed)


def test_prints_go_nowhere(runner: asyncio.Runner, jail: Jail, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert runner.run(result(jail, file, "print_much")) == "printed"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("sent", "kind", "said"),
    [
        (b"X" + bytes(10), ParserDied, "kind"),
        (HEADER.pack(MESSAGE, MAX_FRAME + 1), ParserDied, "bytes"),
        (HEADER.pack(MESSAGE, 3) + b"{]}", ParserDied, "JSON"),
        (HEADER.pack(b"R", 1) + b"x", ParserDied, "announced"),
        (HEADER.pack(MESSAGE, 14) + b'{"kind":"end"}', PluginError, "no document"),
        (HEADER.pack(MESSAGE, 50) + b'{"kind":"problem","error":"Lost","detail', ParserDied, "status 0"),
        (HEADER.pack(MESSAGE, 45) + b'{"kind":"problem","error":"Lost","detail":""}', ParserDied, "failed"),
    ],
)
def test_nonsense_from_a_child_is_refused(
    runner: asyncio.Runner, jail: Jail, file: Path, sent: bytes, kind: type[Exception], said: str
) -> None:
    forger = ComponentRef("jail_parsers:Forger", {"hex": sent.hex()})
    assert said in fails(runner, parse(jail, file, forger), kind).detail


@pytest.mark.parametrize(
    ("parser", "chunker", "said"),
    [
        (ComponentRef("jail_parsers:Overlapping"), None, "locator"),
        (LINES, ComponentRef("jail_parsers:Outside"), "chunk"),
        (ComponentRef("jail_parsers:Nobody"), None, "cannot be imported"),
        (ComponentRef("nowhere:Nobody"), None, "cannot be imported"),
        (ComponentRef("jail_parsers:Words"), None, "no Parser"),
        (ComponentRef("jail_parsers:Act", {"act": "pid", "other": 1}), None, "settings"),
    ],
)
def test_a_component_that_breaks_its_contract_is_named(
    runner: asyncio.Runner, jail: Jail, file: Path, parser: ComponentRef, chunker: ComponentRef | None, said: str
) -> None:
    error = fails(runner, parse(jail, file, parser, chunker), PluginError)
    assert said in error.detail
    assert (chunker or parser).target in error.detail


# What a parser may not do.


def active(runner: asyncio.Runner, jail: Jail, layer: str) -> None:
    state = runner.run(jail.layers())[layer]
    if state != "active":
        pytest.skip(f"{layer} is {state}")


def test_no_secret_of_the_serving_process_is_visible(
    runner: asyncio.Runner, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_KEY", "canary-value")

    async def seen() -> str:
        jail = jail_of(layers=())
        try:
            environment = await result(jail, file, "environment") + await result(
                jail, file, "read", "/proc/self/environ"
            )
            files = await result(jail, file, "open_files")
        finally:
            await jail.close()
        assert files == "[0, 1, 2, 3, 4, 5]", "a child has its streams, its connection, its document, its own status"
        return environment

    environment = runner.run(seen())
    assert "LC_ALL" in environment
    assert "CANARY" not in environment.upper()


def test_the_server_imports_no_part_of_the_application(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    assert runner.run(result(jail, file, "modules")) == "[]"


def test_no_socket_can_be_opened(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    active(runner, jail, "seccomp")
    assert runner.run(result(jail, file, "socket")) == "EPERM EPERM EPERM EPERM"


@pytest.mark.parametrize("deed", ["fork", "run", "kill_parent", "change_file"])
def test_no_process_no_signal_no_change(runner: asyncio.Runner, jail: Jail, file: Path, deed: str) -> None:
    active(runner, jail, "seccomp")
    before = file.stat().st_mode
    assert runner.run(result(jail, file, deed)) == "EPERM"
    assert file.stat().st_mode == before


def test_threads_work(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    assert runner.run(result(jail, file, "thread")) == "ran"


def test_files_cannot_be_read(runner: asyncio.Runner, jail: Jail, open_jail: Jail, file: Path, tmp_path: Path) -> None:
    active(runner, jail, "landlock")
    canary = tmp_path / "canary"
    canary.write_text("canary-value")
    for path in ("/etc/passwd", canary, "/proc/self/environ", file):
        assert runner.run(result(jail, file, "read", path)) == "EACCES"
    assert "canary-value" in runner.run(result(open_jail, file, "read", canary)), "the test can see what it looks for"


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_either_of_two_layers_keeps_files_as_they_are(
    runner: asyncio.Runner, jail: Jail, file: Path, tmp_path: Path, layer: str
) -> None:
    active(runner, jail, layer)

    async def tried() -> list[str]:
        alone = jail_of(layers=["no_new_privs", layer])
        try:
            return [await result(alone, file, deed, tmp_path / deed) for deed in ("write", "remove")]
        finally:
            await alone.close()

    (tmp_path / "remove").write_text("stays")
    written, removed = runner.run(tried())
    assert not (tmp_path / "write").exists()
    assert (tmp_path / "remove").read_text() == "stays"
    assert "allowed" not in written + removed


# What is left.


def test_a_grandchild_that_left_its_group_does_not_outlive(runner: asyncio.Runner, open_jail: Jail, file: Path) -> None:
    runner.run(open_jail.layers())
    before = descendants()
    assert runner.run(result(open_jail, file, "grandchild")) == "forked"
    runner.run(until(lambda: len(descendants()) == len(before)))


def test_a_fork_bomb_stays_one_process(runner: asyncio.Runner, hasty: Jail, file: Path) -> None:
    active(runner, hasty, "seccomp")
    before = descendants()
    assert fails(runner, parse(hasty, file, act("bomb")), LimitExceeded).details["what"] == "time"
    runner.run(until(lambda: len(descendants()) == len(before)))


def test_cancelling_leaves_no_child(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    async def cancelled() -> None:
        await jail.layers()
        before = descendants()
        task = asyncio.create_task(parse(jail, file, act("sleep")))
        await until(lambda: descendants() > before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(descendants()) == len(before))

    runner.run(cancelled())
    assert runner.run(parse(jail, file)).length


def test_a_killed_server_costs_no_document(runner: asyncio.Runner, file: Path, tmp_path: Path) -> None:
    """The document in its hands is tried once more, and the next one finds a new server."""
    readable = tmp_path / "readable"
    readable.mkdir()

    async def scene() -> None:
        jail = jail_of(folders=[readable])
        try:
            await jail.layers()
            before, server = descendants(), server_of(jail)
            task = asyncio.create_task(result(jail, file, "wait_for", readable / "marker"))
            await until(lambda: descendants() > before)
            os.kill(server, signal.SIGKILL)
            (readable / "marker").touch()
            assert await task == "found"
            assert server_of(jail) != server
            os.kill(server_of(jail), signal.SIGKILL)
            assert (await parse(jail, file)).length
        finally:
            await jail.close()

    runner.run(scene())


def test_a_document_that_kills_the_server_twice_is_given_up(
    runner: asyncio.Runner, open_jail: Jail, file: Path
) -> None:
    assert "twice" in fails(runner, parse(open_jail, file, act("kill_parent")), ParserDied).detail
    assert runner.run(parse(open_jail, file)).length


def test_a_server_that_does_not_start_is_told_and_leaves_nothing(
    runner: asyncio.Runner, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sourcebook.jail_process.PYTHON_OPTIONS", ("-c", "raise SystemExit(3)"))
    before = descendants()
    error = fails(runner, parse(jail_of(), file), PluginError)
    assert "status 3" in error.detail
    assert error.transient
    assert descendants() == before


def test_a_closed_jail_stays_closed(runner: asyncio.Runner, file: Path) -> None:
    async def closed() -> None:
        jail = jail_of()
        await jail.close()
        await jail.close()
        await parse(jail, file)

    fails(runner, closed(), RuntimeError)


# Layers.


def test_layers_say_what_is_active(runner: asyncio.Runner, jail: Jail, open_jail: Jail) -> None:
    layers = runner.run(jail.layers())
    assert {"limits", "lifeline", "no_new_privs", "landlock", "seccomp", "reaper", "single_thread"} == layers.keys()
    assert {layers["limits"], layers["lifeline"], layers["no_new_privs"], layers["single_thread"]} == {"active"}
    assert runner.run(open_jail.layers())["seccomp"] == "missing: switched off"


def test_strict_parses_where_nothing_is_missing(runner: asyncio.Runner, jail: Jail, file: Path) -> None:
    if lacking := missing(runner.run(jail.layers())):
        pytest.skip(f"this system lacks {lacking}")

    async def strictly() -> Parsed:
        strict = jail_of(JailLimits(mode="strict"))
        try:
            return await parse(strict, file)
        finally:
            await strict.close()

    assert runner.run(strictly()).length


def test_strict_refuses_and_names_what_is_missing(runner: asyncio.Runner, file: Path, tmp_path: Path) -> None:
    (tmp_path / "crowd.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )

    async def refused() -> None:
        jail = Jail(
            JailLimits(mode="strict"), ["crowd"], search_path=[tmp_path], layers=["limits", "lifeline", "landlock"]
        )
        try:
            await parse(jail, file)
        finally:
            await jail.close()

    detail = fails(runner, refused(), ConfigError).detail
    assert "seccomp (switched off)" in detail
    assert "single_thread (crowd started 1)" in detail
    assert "limits" not in detail


def test_a_module_that_cannot_be_imported_stops_only_its_parser(
    runner: asyncio.Runner, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> Parsed:
        jail = Jail(JailLimits(), ["no_such_module", "jail_parsers"], search_path=[HERE])
        try:
            return await parse(jail, file)
        finally:
            await jail.close()

    assert runner.run(scene()).length
    assert "no_such_module" in caplog.text
