"""The connection to the index process: many requests at a time over one socket, told apart by their ids."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from sourcebook.errors import IndexUnavailable, PluginError, StoreError
from sourcebook_plugins.qdrant import runtime
from sourcebook_plugins.qdrant.frames import PROTOCOL, pack, receive
from sourcebook_plugins.qdrant.starting import connect_or_start, last_words


class Client:
    """Calls the process that owns `folder`; starts it when there is none, and once more when it died.

    Every request may be sent twice, because all of them are idempotent.
    """

    def __init__(self, folder: Path, log: logging.Logger, *, idle_seconds: float, timeout_seconds: float) -> None:
        self._folder = folder
        self._log = log
        self._idle_seconds = idle_seconds
        self._timeout = timeout_seconds
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    @property
    def pid(self) -> int:
        """Of the process we are connected to; 0 while we are not."""
        return self._connection.pid if self._connection and self._connection.alive else 0

    async def call(self, op: str, body: Mapping[str, Any] | None = None, raw: bytes = b"") -> dict[str, Any]:
        """The result of one request.

        Raises `IndexUnavailable` (no process, or no answer in time), `PluginError` (the request breaks the contract)
        and `StoreError` (Qdrant failed). A cancelled call may or may not have been carried out.
        """
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._ask({"op": op, **(body or {})}, raw)
        except TimeoutError as error:
            raise IndexUnavailable(f"The index did not answer within {self._timeout:g} s.") from error
        except OSError as error:
            raise IndexUnavailable(f"The index process cannot be reached: {error}") from error
        if problem := answer.get("error"):
            if problem["kind"] == "refused":
                raise PluginError(problem["detail"])
            raise StoreError(f"The index failed: {problem['detail']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def close(self) -> None:
        """Leave; the process stays for the others, and for a while for us. What is still being asked fails."""
        self._closed = True
        async with self._connecting:
            if self._connection:
                self._connection.close()
                await asyncio.wait([self._connection.listening])
                self._connection = None

    async def _ask(self, message: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
        connection = await self._connected()
        try:
            return await connection.ask(message, raw)
        except ConnectionError:
            pass  # it has died, and is started again
        connection = await self._connected()
        try:
            return await connection.ask(message, raw)
        except ConnectionError as error:
            raise IndexUnavailable("The index process died twice over one request.") from error

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._closed:
                raise IndexUnavailable("The index was closed.")
            if not self._connection or not self._connection.alive:
                if self._connection:
                    said = await asyncio.to_thread(last_words, self._folder)
                    self._log.warning("The index process is gone, starting it again; its last words: %s", said)
                self._connection = await connect_or_start(self._folder, self._idle_seconds, self._connect)
            return self._connection

    async def _connect(self) -> _Connection | None:
        """A connection to the process whose address the folder holds; None where nobody answers there."""
        address = runtime.read_address(self._folder)
        if not address:
            return None
        try:
            reader, writer = await asyncio.open_unix_connection(address)
        except OSError:
            return None  # a process that ended, or was killed and left its socket behind
        try:
            writer.write(pack({"hello": PROTOCOL}))
            greeting, _ = await receive(reader)
        except ConnectionError:
            writer.close()
            return None  # it was just about to end
        except asyncio.CancelledError:
            writer.close()
            raise
        if greeting.get("hello") != PROTOCOL:
            writer.close()
            raise IndexUnavailable(
                f"The index process {greeting.get('pid')} speaks protocol {greeting.get('hello')}, and this program "
                f"{PROTOCOL}: two versions of Sourcebook use {self._folder}.",
                remedy="Stop the programs of the other version; the process ends by itself a little later.",
                transient=False,
            )
        return _Connection(reader, writer, int(greeting["pid"]))


class _Connection:
    """One open socket. A request that nobody waits for any more is answered all the same, and its answer dropped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int) -> None:
        self.pid = pid
        self._writer = writer
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self.alive = True
        self.listening = asyncio.create_task(self._listen(reader))

    async def ask(self, message: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
        """The frame that answers `message`. Raises `ConnectionError` when the process goes away before that."""
        if not self.alive:
            raise ConnectionResetError("The index process is gone.")
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            # A frame is written whole, in one call that cannot be cancelled half way.
            self._writer.write(pack({"id": number, **message}, raw))
            await self._writer.drain()
            found = await answer
        except ConnectionError:
            self.close()
            raise
        finally:
            self._waiting.pop(number, None)
        if found is None:
            raise ConnectionResetError("The index process is gone.")
        return found

    def close(self) -> None:
        """Hang up; whoever still waits is told that the process is gone."""
        self.alive = False
        self.listening.cancel()
        self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(None)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                message, _ = await receive(reader)
                answer = self._waiting.get(message.get("id", 0))
                if answer and not answer.done():
                    answer.set_result(message)
        except OSError:
            self.close()
