"""The index process: `python -m sourcebook_plugins.qdrant.child FOLDER IDLE_SECONDS`.

It owns the shard of one data folder. Its clients start it (see `starting.py`), and it outlives them: it ends when the
last one has been gone for IDLE_SECONDS, or on SIGTERM, and then flushes first. A kill loses nothing that was
acknowledged: the write-ahead log has it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sourcebook_plugins.qdrant import runtime
from sourcebook_plugins.qdrant.compacting import WRITES, Compactor
from sourcebook_plugins.qdrant.frames import PROTOCOL, pack, receive
from sourcebook_plugins.qdrant.shard import Refused, Shard

log = logging.getLogger("sourcebook.index")

LOCK_SECONDS = 20.0
"""How long to wait for the process before us to flush and let go."""

FIRST_SECONDS = 10.0
"""The least time that the first client has to connect."""


class Server:
    """Answers requests, one at a time whoever asks: every call into the shard blocks anyway."""

    def __init__(self, shard: Shard, idle_seconds: float) -> None:
        self.shard = shard
        self.compactor = Compactor(shard, self._replaced)
        self._operations: dict[str, Callable[[dict[str, Any], memoryview], dict[str, Any]]] = {}
        self._replaced(shard)
        self._idle_seconds = idle_seconds
        self._connections = 0
        self._timer: asyncio.TimerHandle | None = None
        self.stopped = asyncio.Event()

    def _replaced(self, shard: Shard) -> None:
        self.shard = shard
        self._operations = {
            "ensure": shard.ensure,
            "ensure_fields": shard.ensure_fields,
            "set_fields": shard.set_fields,
            "upsert": shard.upsert,
            "delete": shard.delete,
            "count": shard.count,
            "scroll": shard.scroll,
            "search": shard.search,
            "flush": shard.flush,
            "held": shard.held,
            "dump": shard.dump,
            "restore": shard.restore,
            "remove": shard.remove,
            "state": self._state,
        }

    def end_in(self, seconds: float) -> None:
        """Stop after this long without a connection."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self.stopped.set)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it goes."""
        if self._timer:
            self._timer.cancel()
        self._connections += 1
        waiting: set[asyncio.Task[None]] = set()
        try:
            greeting, _ = await receive(reader)
            writer.write(pack({"hello": PROTOCOL, "pid": os.getpid()}))
            while greeting.get("hello") == PROTOCOL:
                request, raw = await receive(reader)
                if request.get("op") in WRITES and (waiting or not self.compactor.writable.is_set()):
                    # Not in this client's way: what it asks meanwhile is answered. Writes keep their order.
                    waiting.add(task := asyncio.create_task(self._later(request, raw, writer)))
                    task.add_done_callback(waiting.discard)
                    continue
                writer.write(pack(self._answer(request, raw)))
                await writer.drain()
                # A client that has much to say does not keep the others waiting.
                await asyncio.sleep(0)
        except ConnectionError:
            pass  # it went away, which is how every conversation ends
        finally:
            for task in waiting:
                task.cancel()
            writer.close()
            self._connections -= 1
            if not self._connections:
                self.end_in(self._idle_seconds)

    async def _later(self, request: dict[str, Any], raw: memoryview, writer: asyncio.StreamWriter) -> None:
        """Answer a write once writes go on: waiters of an event wake in the order in which they came."""
        await self.compactor.writable.wait()
        with suppress(ConnectionError):
            writer.write(pack(self._answer(request, raw)))
            await writer.drain()

    def _answer(self, request: dict[str, Any], raw: memoryview) -> dict[str, Any]:
        try:
            result = self._operations[request["op"]](request, raw)
            if request["op"] in WRITES:
                self.compactor.wrote(request, raw)
            if "tuning" in request:
                self.compactor.tune(request["tuning"])
            return {"id": request["id"], "result": result}
        except Refused as refusal:
            return {"id": request["id"], "error": {"kind": "refused", "detail": str(refusal)}}
        except Exception as error:  # Edge raises nothing more precise; the client makes a StoreError of it
            log.warning("%s failed", request.get("op"), exc_info=True)
            return {"id": request.get("id"), "error": {"kind": "failed", "detail": f"{type(error).__name__}: {error}"}}
        except BaseException as panic:
            # A panic in Rust derives from BaseException and leaves locks behind: only a new process can be trusted.
            log.critical("%s ended the index process", request.get("op"), exc_info=panic)
            os._exit(70)

    def _state(self, _request: dict[str, Any], _raw: memoryview) -> dict[str, Any]:
        """For tests, benchmarks and the curious."""
        return {"points": self.shard.points, "compacted": self.shard.compacted, "compactions": self.compactor.done}


async def serve(folder: Path, idle_seconds: float) -> None:
    """Own `folder` until nobody needs it. Raises what keeps us from opening it."""
    lock = await _lock(folder)
    shard = Shard(folder)
    path = runtime.socket_path(folder)
    server = Server(shard, idle_seconds)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopped.set)
    listening = await asyncio.start_unix_server(server.converse, sock=runtime.listen(path))
    server.end_in(max(idle_seconds, FIRST_SECONDS))
    # Last: who reads the address can connect.
    runtime.write_address(folder, path)
    log.info("process %d owns %s", os.getpid(), folder)
    watching = asyncio.create_task(server.compactor.watch())
    try:
        await server.stopped.wait()
    finally:
        watching.cancel()
        listening.close()
        path.unlink(missing_ok=True)
        server.shard.close()
        log.info("process %d is done with %s", os.getpid(), folder)
        os.close(lock)


async def _lock(folder: Path) -> int:
    deadline = time.monotonic() + LOCK_SECONDS
    while (lock := runtime.try_lock(runtime.owner_lock(folder))) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Another process owns {folder}, and does not let go of it.")
        await asyncio.sleep(0.02)
    return lock


def main() -> None:
    """The command line, as `starting.py` writes it."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
    except (OSError, RuntimeError) as error:
        # The last line of the log is what the client that waits for us tells its user.
        log.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
