"""All runs: begins them, finds them wherever they are being made, and ends those whose worker was lost.

One wrapper turns whatever goes wrong in an answer into `error`, then `done`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from datetime import timedelta
from functools import partial
from typing import Any

from sourcebook import settings
from sourcebook.about import about
from sourcebook.answering import Progress, Question
from sourcebook.conversations import Conversations
from sourcebook.database.engine import Database, now
from sourcebook.elsewhere import held, left
from sourcebook.errors import Lost, SourcebookError, StoreError
from sourcebook.events import Done, ErrorEvent, Event, RunStarted, Snapshot, encode
from sourcebook.following import Following
from sourcebook.ids import new_id
from sourcebook.lost_runs import ENDED, Interrupted, recovered
from sourcebook.metrics import Metrics
from sourcebook.owners import Principal
from sourcebook.run import Run
from sourcebook.run_log import RunLog
from sourcebook.steps import Tracer, inside
from sourcebook.turns import Answer, Asked, Turns
from sourcebook.wiring import Wirings

log = logging.getLogger(__name__)

_MOST_ENDED = 32 * 1024 * 1024  # bytes of runs that have ended
_DONE = b"\nevent: done\n"


class Runs:
    """The runs of this process, and the way to those of others."""

    def __init__(
        self,
        options: settings.Runs,
        wirings: Wirings,
        conversations: Conversations,
        db: Database,
        metrics: Metrics | None = None,
        several: bool = False,
        tracer: Tracer | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._tracer = tracer
        self.options = options
        self.turns = Turns(db)
        self._wirings = wirings
        self._conversations = conversations
        self._runs: dict[str, Run] = {}
        self._over: deque[Run] = deque()  # of these
        self._over_bytes = 0
        self._log = RunLog(db, options, several=several)
        self._following = Following(self._log, self._recover)
        self._sweeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look for lost runs."""
        self._sweeper = asyncio.create_task(self._sweeps(), name="runs sweeper")

    def change(self, options: settings.Runs) -> None:
        """Go by these from now on."""
        self.options = self._log.options = options

    async def drain(self, seconds: float) -> None:
        """Until every run of this process has ended, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while running := [run for run in self._runs.values() if run.finished_at is None]:
                    await asyncio.gather(*(run.wait() for run in running))

    async def close(self) -> None:
        """End what still runs as interrupted: `error`, then `done`; what was made is kept."""
        await asyncio.gather(*(run.cancel("shutdown") for run in self._runs.values()))
        await self._following.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._log.close()

    async def start(self, principal: Principal, question: Question, asked: Asked, *, grace: float | None = None) -> Run:
        """Store the question and start to answer it. Whoever is told of the run follows it."""
        self._forget()
        run_id, message_id = new_id("run"), new_id("msg")
        grace = self.options.grace if grace is None else grace
        run = Run(run_id, principal.owner_id, grace, self.options)
        with about(run_id=run_id), inside(run.begun(question.pipeline, self._tracer)):
            return await self._start(run, principal, question, asked, message_id)

    async def _start(self, run: Run, principal: Principal, question: Question, asked: Asked, message_id: str) -> Run:
        held()
        wiring = self._wirings.take()  # to the end of the answer, whatever is reloaded meanwhile
        leave = partial(self._wirings.leave, wiring)
        # It is searched while the question is being stored; nobody is told of anything before it is.
        events = wiring.answering.answer(question, run.progress)
        first = asyncio.create_task(_next(events))
        try:
            conversation_id = await self.turns.begin(principal, asked, run.id, self._log.worker, self._log.lease())
        except BaseException as error:
            first.cancel()
            await asyncio.wait([first])
            await events.aclose()
            leave()
            run.step.end(type(error).__name__)
            raise
        run.step.tell(conversation_id=conversation_id)
        self._runs[run.id] = run
        self._log.add(run)
        started = RunStarted(
            conversation_id=conversation_id,
            message_id=message_id,
            notebooks=list(asked.notebooks),
            pipeline=question.pipeline,
            created_at=now().isoformat(),
        )
        run.emit(started)
        run.begin(self._work(run, first, events, conversation_id, message_id))
        run.when_over(leave)
        await asyncio.sleep(0)  # a task that is cancelled before its first step would end without a word
        return run

    def counted(self) -> tuple[int, int]:
        """The runs that this process is making, and the clients that follow here."""
        made = self._runs.values()
        return sum(run.finished_at is None for run in made), sum(run.followers for run in made)

    def held(self, principal: Principal, run_id: str) -> Run | None:
        """A run of this owner that this process makes, or has made a while ago."""
        run = self._runs.get(run_id)
        return run if run is not None and run.owner_id == principal.owner_id else None

    async def events(self, principal: Principal, run_id: str, after: int = 0) -> AsyncGenerator[bytes, None]:
        """Await it, then iterate: the frames behind number `after`, whoever makes the run. Raises `NotFound`."""
        run = self.held(principal, run_id)
        if run is not None:
            return wires(run, after)
        row = await self.turns.run(principal, run_id)
        if row["finished_at"] is not None:
            after = min(after, row["last_seq"] - 1)
        return self._elsewhere(principal, run_id, after)

    async def cancel(self, principal: Principal, run_id: str) -> None:
        """Stop a run at once, wherever it is made, and wait for its end. One that has ended is left as it is."""
        run = self.held(principal, run_id)
        if run is not None:
            await run.cancel("asked")
            return
        await self.turns.run(principal, run_id)
        await self._log.ask_to_cancel(run_id)
        until = asyncio.get_running_loop().time() + self.options.lease
        while asyncio.get_running_loop().time() < until:
            if (await self._log.states([run_id]))[run_id]["state"] != "running":
                return
            await asyncio.sleep(self.options.flush)

    async def _elsewhere(self, principal: Principal, run_id: str, after: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._following.wires(run_id, after)) as found:
            async for last, wire in found:
                after = last
                yield wire
                if _DONE in wire:
                    return
        # Its frames are gone, or were never written: the answer itself is stored.
        row = await self.turns.run(principal, run_id)
        if row["message_id"] is not None:
            yield await self._ending(principal, row)

    async def _ending(self, principal: Principal, row: Any) -> bytes:
        """`snapshot` and `done` of a run that ended, from its stored message."""
        _, message = await self._conversations.message(principal, row["message_id"])
        cited = [_shown(one) for one in message.citations]
        grounded = any(one["supported"] for one in cited)
        snapshot = Snapshot(reasoning=message.reasoning, content=message.text, citations=cited)
        done = Done(
            finish=str(message.details.get("finish", "error")),
            message_id=message.id,
            message_state=message.state,
            text=message.text,
            citations=cited,
            grounded=grounded,
        )
        last = row["last_seq"]
        return encode(row["id"], max(last - 1, 1), snapshot).wire + encode(row["id"], max(last, 2), done).wire

    async def _work(
        self,
        run: Run,
        first: asyncio.Task[Event],
        events: AsyncGenerator[Event, None],
        conversation_id: str,
        message_id: str,
    ) -> None:
        outcome, finish = "done", ""
        try:
            async with aclosing(events):
                event = await first
                self._metrics.event(event)
                run.emit(event)
                left()  # it is the model's turn
                async for event in events:
                    run.emit(event)
                self._metrics.event(event)  # the last of them says what it cost
            finish = run.progress.finish
        except asyncio.CancelledError:
            outcome, finish = "cancelled", "cancelled"
            if run.why_cancelled == "shutdown":
                outcome, finish, run.error = "failed", "error", Interrupted(ENDED)
                run.emit(ErrorEvent(problem=run.error.problem(), retryable=True))
        except SourcebookError as error:
            log.warning("run %s failed: %s", run.id, error.problem_code)  # what it says may quote the question
            outcome, finish, run.error = "failed", "error", error
            run.emit(ErrorEvent(problem=error.problem(), retryable=error.transient))
        except Exception:  # a bug of ours or a plugin's: the client still gets `error`, then `done`
            log.exception("run %s failed", run.id)
            outcome, finish = "failed", "error"
            run.error = SourcebookError("The answer could not be finished; the server's log says why.")
            run.emit(ErrorEvent(problem=run.error.problem(), retryable=True))
        # From here on nothing may interrupt: the answer is stored before the client hears that it is.
        await _uninterrupted(self._end(run, conversation_id, message_id, outcome, finish))

    async def _end(self, run: Run, conversation_id: str, message_id: str, outcome: str, finish: str) -> None:
        left()
        p = run.progress
        state = "complete" if outcome == "done" and finish in ("stop", "other") else "incomplete"
        answer = Answer(p.text, p.reasoning, state, outcome, _details(run, finish), p.citations, run.last_seq + 1)
        traced = run.traced(outcome, finish) if self.options.trace else None
        try:
            if not await self.turns.finish(run.id, conversation_id, message_id, answer, traced):
                raise Lost("Another process ended this run, because this one did not renew its lease in time.")
        except Exception as error:  # whatever it is, nobody may wait for ever for the `done`
            log.exception("the answer of %s was not stored", run.id)
            known = error if isinstance(error, SourcebookError) else StoreError("The answer could not be stored.")
            run.emit(ErrorEvent(problem=known.problem(), retryable=False))
        done = Done(
            finish=finish,
            message_id=message_id,
            message_state=state,
            text=p.text,
            citations=[c.payload() for c in p.citations],
            grounded=p.grounded,
            dropped_citations=p.dropped,
        )
        run.emit(done)
        run.end()
        self._over.append(run)
        self._over_bytes += run.bytes
        run.step.tell(outcome=outcome, finish=finish)
        run.step.end(run.error.problem_code if run.error else "")
        run.lighten()
        self._metrics.ended(outcome, run.seconds, sum(not c.supported for c in p.citations))

    def _forget(self) -> None:
        """Drop what ended long ago, and the oldest where there is much of it: the answers are stored as messages."""
        horizon = time.monotonic() - self.options.keep
        while self._over and (self._over_bytes > _MOST_ENDED or (self._over[0].finished_at or 0.0) < horizon):
            run = self._over.popleft()
            self._over_bytes -= run.bytes
            self._runs.pop(run.id, None)

    async def _sweeps(self) -> None:
        """End lost runs, drop old frames, and the conversations that came over /v1 and can no longer be opened."""
        while True:
            try:
                for run_id in await self.turns.lost(now()):
                    await self._recover(run_id)
                await self._log.prune()
                lifetime = self._wirings.current.links.lifetime
                await self._conversations.expire("openai", now() - timedelta(seconds=lifetime))
            except SourcebookError as error:
                log.warning("lost runs could not be looked for: %s", error)
            await asyncio.sleep(self.options.lease)

    async def _recover(self, run_id: str) -> None:
        """End a run whose worker is gone: `error` (code `interrupted`), then `done`, and what it made is kept."""
        segments = []
        last = -1
        while found := (await self._log.segments({run_id: max(last, 0)})).get(run_id, []):
            segments += found
            last = found[-1].last_seq
        answer, message_id, seq, frames = recovered(run_id, segments)
        if await self.turns.take_over(run_id, answer, message_id, seq, frames):
            log.warning("run %s was interrupted: its worker is gone", run_id)


async def wires(run: Run, after: int = 0) -> AsyncGenerator[bytes, None]:
    """The frames of a run of this process, joined where several are there."""
    async with aclosing(run.batches(after)) as batches:
        async for batch in batches:
            yield batch[0].wire if len(batch) == 1 else b"".join([frame.wire for frame in batch])


async def _next(events: AsyncGenerator[Event, None]) -> Event:
    return await anext(events)


def _details(run: Run, finish: str) -> dict[str, Any]:
    p: Progress = run.progress
    details: dict[str, Any] = {
        "finish": finish,
        "llm": p.llm,
        "prompt_tokens": p.usage.prompt,
        "completion_tokens": p.usage.completion,
        "grounded": p.grounded,
    }
    if run.why_cancelled:
        details["cancelled"] = run.why_cancelled
    if run.error is not None:
        details["problem"] = run.error.problem()
    return details


def _shown(row: Any) -> dict[str, Any]:
    """A stored citation as an event tells it."""
    names = ("id", "n", "passage_id", "source_id", "document_id", "start", "end", "quote", "answer_start", "answer_end")
    return {name: row[name] for name in (*names, "supported")}


async def _uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Finish `work` even where the surrounding task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
