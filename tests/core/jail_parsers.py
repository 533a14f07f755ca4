"""Parsers and chunkers that behave badly, for the jail's tests: the child imports this module by its name."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sourcebook.documents import Box, Chunk, Document, Locator, Place
from sourcebook.errors import Encrypted, Malformed
from sourcebook.interfaces import Chunker, ComponentSettings, Parser, ParserFile
from sourcebook.jail_frames import RawHead, encode
from sourcebook.writer import DocumentWriter

_read = 0


class Base(Parser[Any]):
    """What the parsers here have in common."""

    name = "test"
    media_types = ("text/x-test",)
    extensions = (".test",)


class Lines(Base):
    """A good one: every line is a paragraph with a place; the file's facts are metadata."""

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        for number, line in enumerate(file.read().decode().split("\n"), 1):
            out.block([(line, Place(page=number, box=(1, 2.5, 3, 4), path=("Größe", "b")))])
        with file.open() as again:
            size = len(again.read())
        out.meta(title=file.name, type=file.media_type, password=file.password, size=size)
        out.warn("odd", "nothing is wrong")

    def render(self, file: ParserFile, page: int, boxes: Sequence[Box]) -> bytes:
        return b"\x89PNG\r\n\x1a\n" + f"{page} {boxes} ".encode() + file.read() + bytes(3_000_000)


class Model(Base):
    """Takes its time to be built, and counts what it has read since. The file says what to do."""

    isolation = "worker"

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.read = 0

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        self.read += 1
        act, _, argument = file.read().decode().partition(" ")
        out.block(f"{os.getpid()} {self.read} {getattr(self, act)(argument)}")

    def nothing(self, _: str) -> None:
        pass

    def die(self, _: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self, _: str) -> None:
        time.sleep(600)

    def fail(self, _: str) -> None:
        raise ValueError("not this one")

    def memory(self, _: str) -> None:
        bytearray(8 << 30)

    def look(self, path: str) -> str:
        try:
            return Path(path).read_text()
        except OSError as error:
            return type(error).__name__

    def connect(self, port: str) -> str:
        try:
            with socket.create_connection(("127.0.0.1", int(port)), 5):
                return "connected"
        except OSError as error:
            return type(error).__name__

    def variable(self, name: str) -> str | None:
        return os.environ.get(name)

    def render(self, file: ParserFile, page: int, boxes: Sequence[Box]) -> bytes:
        return b"\x89PNG\r\n\x1a\n" + str(self.read).encode()


class Drawer(Base):
    """Draws something else than a PNG."""

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        out.block("text")

    def render(self, file: ParserFile, page: int, boxes: Sequence[Box]) -> bytes:
        return b"GIF89a"


class Members(Base):
    """No text, but files inside."""

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        out.member("empty.txt", b"")
        out.member("large.bin", bytes(range(256)) * 10_000)


class Act(Base):
    """Does what its settings say, then writes what came of it."""

    class Settings(ComponentSettings):
        act: str
        argument: str = ""

    settings: Settings

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        out.block(f"Result: {getattr(self, self.settings.act)()}")

    def used(self) -> int:
        """How many documents this process has read."""
        global _read
        _read += 1
        return _read

    def fail_if_used(self) -> int:
        if self.used() > 1:
            raise ValueError("not the first")
        return _read

    def malformed_if_used(self) -> int:
        if self.used() > 1:
            raise Malformed("Not the first.")
        return _read

    def segfault_if_used(self) -> int:
        if self.used() > 1:
            self.segfault()
        return _read

    def loop_if_used(self) -> int:
        if self.used() > 1:
            self.loop()
        return _read

    def segfault(self) -> None:
        ctypes.string_at(0)

    def abort(self) -> None:
        os.abort()

    def leave(self) -> None:
        os._exit(3)

    def sys_exit(self) -> None:
        sys.exit("enough")

    def loop(self) -> None:
        while True:
            pass

    def sleep(self) -> None:
        time.sleep(600)

    def recurse(self) -> None:
        self.recurse()

    def memory(self) -> int:
        return len(bytearray(8 << 30))

    def memory_slowly(self) -> None:
        kept = []
        while True:
            kept.append(bytes(1 << 20))

    def memory_as_damage(self) -> None:
        """As a native library that calls it damaged input."""
        kept = []
        try:
            while True:
                kept.append(bytes(1 << 20))
        except MemoryError:
            pass
        try:
            raise ValueError("damaged near byte 0")
        finally:
            kept.pop()

    def memory_as_cause(self) -> None:
        try:
            bytearray(8 << 30)
        except MemoryError as error:
            raise Malformed("The file is damaged.") from error

    def raise_value(self) -> None:
        raise ValueError(f"cannot read {Path(__file__).parent}/x.py\n" + "x" * 1000)

    def raise_document(self) -> None:
        class Mine(Malformed):
            code = "mine"

        raise Mine("Page 3 is broken.", remedy="Save it again.", page=3)

    def raise_odd_details(self) -> None:
        raise Encrypted("A password is needed.", odd={1, 2}, code="password_wrong")

    def environment(self) -> str:
        return repr(dict(os.environ))

    def modules(self) -> str:
        heavy = ("sqlalchemy", "fastapi", "starlette", "asyncio", "httpx", "numpy", "sourcebook.jail")
        return repr([name for name in heavy if name in sys.modules])

    def wait_for(self) -> str:
        while not Path(self.settings.argument).exists():
            time.sleep(0.005)
        return "found"

    def open_files(self) -> str:
        found = []
        for number in range(64):
            try:
                os.fstat(number)
            except OSError:
                continue
            found.append(number)
        return repr(found)

    def socket(self) -> str:
        names = ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK")
        return " ".join(_refusal(socket.socket, getattr(socket, name)) for name in names)

    def read(self) -> str:
        return _refusal(Path(self.settings.argument).read_text)

    def write(self) -> str:
        return _refusal(Path(self.settings.argument).write_text, "written")

    def remove(self) -> str:
        return _refusal(Path(self.settings.argument).unlink)

    def change_file(self) -> str:
        return _refusal(os.fchmod, 4, 0o777)

    def fork(self) -> str:
        return _refusal(os.fork)

    def run(self) -> str:
        return _refusal(os.execv, "/bin/true", ["true"])

    def kill_parent(self) -> str:
        return _refusal(os.kill, os.getppid(), signal.SIGKILL)

    def thread(self) -> str:
        done: list[str] = []
        thread = threading.Thread(target=lambda: done.append("ran"))
        thread.start()
        thread.join()
        return done[0]

    def grandchild(self) -> str:
        """One that leaves its group, keeps the connection open and outlives its parent."""
        try:
            if os.fork() == 0:
                os.setsid()
                time.sleep(600)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "forked"

    def bomb(self) -> None:
        while True:
            try:
                if os.fork() == 0:
                    os.setsid()
            except OSError:
                time.sleep(0.01)

    def print_much(self) -> str:
        for _ in range(2_000):
            print("x" * 10_000)
            print("x" * 10_000, file=sys.stderr)
        return "printed"

    def pid(self) -> int:
        return os.getpid()


class Flood(Base):
    """Writes raw bytes without end into the connection, in good frames."""

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        piece = bytes(1 << 20)
        with os.fdopen(os.dup(3), "wb") as connection:
            connection.write(encode(RawHead(1 << 40, "endless")))
            while True:
                connection.write(b"R" + len(piece).to_bytes(4, "big") + piece)


class Forger(Base):
    """Speaks on the connection by itself."""

    class Settings(ComponentSettings):
        hex: str

    settings: Settings

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        os.write(3, bytes.fromhex(self.settings.hex))
        os._exit(0)


class Overlapping(Base):
    """Locators that overlap."""

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        out.block("some text")
        out._locators = [Locator(0, 5, Place(page=1)), Locator(2, 6, Place(page=1))]


class Words(Chunker[Any]):
    """A good one: `size` code points a chunk, the whole text as parent."""

    name = "words"

    class Settings(ComponentSettings):
        size: int = 100

    settings: Settings

    def chunk(self, document: Document) -> Iterable[Chunk]:
        size, end = self.settings.size, len(document.text)
        title = str(document.metadata.get("title", ""))
        for start in range(0, end, size):
            yield Chunk(start, min(start + size, end), title, (0, end))


class Failing(Chunker[Any]):
    """Fails after a first chunk."""

    name = "failing"

    def chunk(self, document: Document) -> Iterable[Chunk]:
        yield Chunk(0, 1)
        raise KeyError("second")


class Outside(Chunker[Any]):
    """Chunks that lie outside the text."""

    name = "outside"

    def chunk(self, document: Document) -> Iterable[Chunk]:
        yield Chunk(0, len(document.text) + 1)


def _refusal(call: Any, *arguments: Any) -> str:
    """The name of the error that a call met, or what it gave."""
    try:
        return f"allowed: {call(*arguments)}"
    except OSError as error:
        return errno.errorcode[error.errno or 0]
