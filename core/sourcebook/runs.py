"""Runs: one answer being made, as a task with a log that any number of clients can follow, leave and come back to.

This is the log's memory form, for one process. One wrapper turns whatever goes wrong into `error`, then `done`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from sourcebook import settings
from sourcebook.answering import Answering, Progress, Question
from sourcebook.conversations import Answer, Conversations
from sourcebook.database.engine import now
from sourcebook.errors import NotFound, SourcebookError, StoreError
from sourcebook.events import Done, ErrorEvent, Event, Frame, RunStarted, Snapshot, UsageEvent, encode
from sourcebook.ids import new_id
from sourcebook.owners import Principal

log = logging.getLogger(__name__)

_FIRST = 5.0  # seconds in which whoever asked has to begin to follow, even where the grace is none


class Run:
    """One answer being made. `follow` gives its frames from any point on."""

    def __init__(self, run_id: str, owner_id: str, grace: float, max_frames: int) -> None:
        self.id = run_id
        self.owner_id = owner_id
        self.progress = Progress()
        self.finished_at: float | None = None
        self._grace = grace
        self._frames: list[Frame] = []
        self._max_frames = max_frames
        self._seq = 0
        self._grown = asyncio.Event()
        self._followers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.why_cancelled = ""
        self.error: SourcebookError | None = None

    @property
    def last_seq(self) -> int:
        """The number of the newest frame."""
        return self._seq

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start the task; somebody has to follow it soon."""
        self._task = asyncio.create_task(work, name=self.id)
        self._watch(max(self._grace, _FIRST))

    def emit(self, event: Event) -> None:
        """Append one event and wake every follower."""
        self._seq += 1
        self._frames.append(encode(self.id, self._seq, event))
        if len(self._frames) >= 2 * self._max_frames:  # seldom and in bulk, so that appending stays cheap
            del self._frames[: self._max_frames]
        self._wake()

    def end(self) -> None:
        """No frame comes any more."""
        self.finished_at = time.monotonic()
        if self._timer:
            self._timer.cancel()
        self._wake()

    async def cancel(self, why: str) -> None:
        """Stop the model at once; what was made is kept as `incomplete`. Idempotent; returns when the run has ended."""
        if self.finished_at is None and self._task is not None:
            self.why_cancelled = self.why_cancelled or why
            self._task.cancel()
        await self.wait()

    async def wait(self) -> None:
        """Until the run has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def follow(self, after: int = 0) -> AsyncGenerator[Frame, None]:
        """Every frame behind number `after`, then those to come, up to `done`.

        A follower who is behind what the log still holds gets one `snapshot`, then the rest. It reads at its own pace:
        the log is shared, so a slow reader costs nothing.
        """
        self._followers += 1
        if self._timer:
            self._timer.cancel()
        after = min(after, self._seq)  # a number that was never given out
        try:
            while True:
                grown = self._grown
                if self._frames and after + 1 < self._frames[0].seq:
                    after = self._told()
                    yield encode(self.id, after, self._snapshot())
                first = self._frames[0].seq if self._frames else 1
                for frame in self._frames[max(after + 1 - first, 0) :]:
                    after = frame.seq
                    yield frame
                if self.finished_at is not None and after >= self._seq:
                    return
                if after >= self._seq:
                    await grown.wait()
        finally:
            self._followers -= 1
            self._watch(self._grace)

    def _told(self) -> int:
        """The newest frame that a snapshot stands for: all but the last words, which are sent as they are."""
        last = len(self._frames)
        while last > 1 and isinstance(self._frames[last - 1].event, UsageEvent | ErrorEvent | Done):
            last -= 1
        return self._frames[last - 1].seq

    def _snapshot(self) -> Snapshot:
        p = self.progress
        return Snapshot(reasoning=p.reasoning, content=p.text, citations=[c.payload() for c in p.citations])

    def _wake(self) -> None:
        """Waiters hold the old event, so none can miss this."""
        self._grown.set()
        self._grown = asyncio.Event()

    def _watch(self, grace: float) -> None:
        """Without a follower, the grace period begins."""
        if self._followers == 0 and self.finished_at is None:
            self._timer = asyncio.get_running_loop().call_later(grace, self._abandon)

    def _abandon(self) -> None:
        if self._followers == 0 and self.finished_at is None and self._task is not None:
            self.why_cancelled = self.why_cancelled or "abandoned"
            self._task.cancel()


class Runs:
    """All runs of this process."""

    def __init__(self, options: settings.Runs, answering: Answering, conversations: Conversations) -> None:
        self.options = options
        self._answering = answering
        self._conversations = conversations
        self._runs: dict[str, Run] = {}

    async def start(
        self,
        principal: Principal,
        question: Question,
        *,
        conversation_id: str | None = None,
        grace: float | None = None,
    ) -> Run:
        """Store the question and start to answer it. Whoever is told of the run follows it."""
        self._forget()
        run_id = new_id("run")
        ids = [n.id for n in question.notebooks]
        conversation_id, message_id = await self._conversations.begin(
            principal, question.text, ids, conversation_id, run_id
        )
        grace = self.options.grace if grace is None else grace
        # The log's cap counts frames; a frame holds a few hundred bytes, so the default is some megabytes.
        run = Run(run_id, principal.owner_id, grace, self.options.max_frames)
        self._runs[run_id] = run
        started = RunStarted(
            conversation_id=conversation_id,
            message_id=message_id,
            notebooks=ids,
            pipeline=question.pipeline,
            created_at=now().isoformat(),
        )
        run.emit(started)
        run.begin(self._work(run, question, conversation_id, message_id))
        await asyncio.sleep(0)  # a task that is cancelled before its first step would end without a word
        return run

    def get(self, principal: Principal, run_id: str) -> Run:
        """A run of this owner that is still held. Raises `NotFound`."""
        run = self._runs.get(run_id)
        if run is None or run.owner_id != principal.owner_id:
            raise NotFound(f"There is no run {run_id}, or it ended too long ago to be followed.")
        return run

    async def close(self) -> None:
        """Cancel what still runs; each ends with its `done`."""
        await asyncio.gather(*(run.cancel("shutdown") for run in self._runs.values()))

    async def _work(self, run: Run, question: Question, conversation_id: str, message_id: str) -> None:
        outcome, finish = "done", ""
        try:
            async with aclosing(self._answering.answer(question, run.progress)) as events:
                async for event in events:
                    run.emit(event)
            finish = run.progress.finish
        except asyncio.CancelledError:
            outcome, finish = "cancelled", "cancelled"
        except SourcebookError as error:
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
        p = run.progress
        state = "complete" if outcome == "done" and finish in ("stop", "other") else "incomplete"
        details = {
            "finish": finish,
            "llm": p.llm,
            "prompt_tokens": p.usage.prompt,
            "completion_tokens": p.usage.completion,
        }
        if run.why_cancelled:
            details["cancelled"] = run.why_cancelled
        answer = Answer(p.text, p.reasoning, state, outcome, details, p.citations, run.last_seq + 1)
        try:
            await self._conversations.finish(run.id, conversation_id, message_id, answer)
        except Exception as error:  # whatever it is, nobody may wait for ever for the `done`
            log.exception("the answer of %s was not stored", run.id)
            known = error if isinstance(error, SourcebookError) else StoreError("The answer could not be stored.")
            run.emit(ErrorEvent(problem=known.problem(), retryable=False))
        run.emit(
            Done(
                finish=finish,
                message_id=message_id,
                message_state=state,
                text=p.text,
                citations=[c.payload() for c in p.citations],
                dropped_citations=p.dropped,
            )
        )
        run.end()

    def _forget(self) -> None:
        """Drop what ended long ago."""
        horizon = time.monotonic() - self.options.keep
        for run_id, run in list(self._runs.items()):
            if run.finished_at is not None and run.finished_at < horizon:
                del self._runs[run_id]


async def _uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Finish `work` even where the surrounding task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
