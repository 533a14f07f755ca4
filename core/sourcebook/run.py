"""One answer being made: a task, and the frames of its events, which any number of clients can follow at their pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from sourcebook import settings
from sourcebook.answering import Progress
from sourcebook.errors import SourcebookError
from sourcebook.events import Done, ErrorEvent, Event, Frame, Snapshot, UsageEvent, encode
from sourcebook.steps import Step, Tracer, root
from sourcebook.trace import Trace, cited, used

_FIRST = 5.0  # seconds in which whoever asked has to begin to follow, even where the grace is none
_BATCH = 256  # frames that are handed out at once


class Run:
    """One answer being made in this process. `batches` and `follow` give its frames from any point on."""

    def __init__(self, run_id: str, owner_id: str, grace: float, options: settings.Runs) -> None:
        self.id = run_id
        self.owner_id = owner_id
        self.progress = Progress()
        self.finished_at: float | None = None
        self.why_cancelled = ""
        self.error: SourcebookError | None = None
        self.step = Step("run", "run", {})
        self.followed_elsewhere = 0.0  # until when a client of another process follows, on the event loop's clock
        self._began = time.monotonic()
        self._grace = grace
        self._options = options
        self._frames: list[Frame] = []
        self._bytes = 0
        self._seq = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._followers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def last_seq(self) -> int:
        """The number of the newest frame."""
        return self._seq

    @property
    def bytes(self) -> int:
        """Of the frames that are held, and of their events."""
        return 2 * self._bytes

    @property
    def followers(self) -> int:
        """Clients of this process that follow it now."""
        return self._followers

    @property
    def seconds(self) -> float:
        """From the question to the end, or to now."""
        return (self.finished_at or time.monotonic()) - self._began

    def begun(self, pipeline: str, tracer: Tracer | None) -> Step:
        """The step that all of it belongs to, whose steps its trace hears of."""
        told = {"run_id": self.id, "pipeline": pipeline}
        self.step = root("run", "run", tracer, self.progress.trace.ended, **told)
        return self.step

    def traced(self, outcome: str, finish: str) -> dict[str, Any]:
        """Its trace as JSON, once it has come to its end, or so far."""
        p = self.progress
        return p.trace.shown(
            cited(p.citations, p.dropped),
            pipeline=self.step.attributes.get("pipeline", ""),
            llm=p.llm,
            usage=used(p.usage),
            outcome=outcome,
            finish=finish,
            cancelled=self.why_cancelled,
            problem=self.error.problem_code if self.error else "",
        )

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start the task; somebody has to follow it soon."""
        self._task = asyncio.create_task(work, name=self.id)
        self._watch(max(self._grace, _FIRST))

    def when_over(self, call: Callable[[], None]) -> None:
        """Call this once the task has ended, however it did."""
        assert self._task is not None
        self._task.add_done_callback(lambda _: call())

    def emit(self, event: Event) -> None:
        """Append one event and wake every follower."""
        self._seq += 1
        frame = encode(self.id, self._seq, event)
        self._frames.append(frame)
        self._bytes += len(frame.wire)
        # Seldom and in bulk, so that appending stays cheap.
        if len(self._frames) >= 2 * self._options.max_frames or self._bytes >= 2 * self._options.max_bytes:
            self._trim()
        if self._waiting:
            self._wake()

    def end(self) -> None:
        """No frame comes any more."""
        self.finished_at = time.monotonic()
        if self._timer:
            self._timer.cancel()
        self._wake()

    def lighten(self) -> None:
        """It is over, and how it came about is stored: for whoever asks for its frames again, those are enough.

        An error holds what every caller on its way held, such as the prompt that was sent.
        """
        self.step.listener = None
        self.progress.trace = Trace()
        error: BaseException | None = self.error
        while error is not None:
            error.__traceback__, error = None, error.__cause__ or error.__context__

    async def cancel(self, why: str) -> None:
        """Stop the model at once; what was made is kept as `incomplete`. Idempotent; returns when the run has ended."""
        self.stop(why)
        await self.wait()

    def stop(self, why: str) -> None:
        """The same without waiting for the end."""
        if self.finished_at is None and self._task is not None:
            self.why_cancelled = self.why_cancelled or why
            self._task.cancel()

    async def wait(self) -> None:
        """Until the run has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def since(self, after: int, most: int = 2**31) -> Sequence[Frame]:
        """The frames behind number `after` that are held, the first `most` of them."""
        first = max(after + 1 - self._frames[0].seq, 0) if self._frames else 0
        return self._frames[first : first + most]

    async def follow(self, after: int = 0) -> AsyncGenerator[Frame, None]:
        """Every frame behind number `after`, one by one, up to `done`."""
        async with aclosing(self.batches(after)) as batches:
            async for batch in batches:
                for frame in batch:
                    yield frame

    async def batches(self, after: int = 0) -> AsyncGenerator[Sequence[Frame], None]:
        """Every frame behind number `after`, as many at once as are there, then those to come, up to `done`.

        A follower who is behind what the log still holds gets one `snapshot`, then the rest. It reads at its own pace:
        the log is shared and bounded, so a slow reader costs nothing.
        """
        self._followers += 1
        if self._timer:
            self._timer.cancel()
        after = min(after, self._seq)  # a number that was never given out
        try:
            while True:
                if self._frames and after + 1 < self._frames[0].seq:
                    after = self._told()
                    yield [encode(self.id, after, self._snapshot())]
                while batch := self.since(after, _BATCH):
                    after = batch[-1].seq
                    yield batch
                    if self._frames and after + 1 < self._frames[0].seq:
                        break
                else:
                    if self.finished_at is not None:
                        return
                    await self._growth()
        finally:
            self._followers -= 1
            self._watch(self._grace)

    async def _growth(self) -> None:
        """Until there is another frame, or the end. Nothing runs between the look for frames and this."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _trim(self) -> None:
        """Keep the newest frames: at most so many, and at most so many bytes, but at least one."""
        size, first = 0, len(self._frames)
        oldest = max(len(self._frames) - self._options.max_frames, 0)
        while first > oldest and (size == 0 or size + len(self._frames[first - 1].wire) <= self._options.max_bytes):
            first -= 1
            size += len(self._frames[first].wire)
        del self._frames[:first]
        self._bytes = size

    def _told(self) -> int:
        """The newest frame that a snapshot stands for: all but the last words, which are sent as they are."""
        last = len(self._frames)
        while last > 1 and isinstance(self._frames[last - 1].event, UsageEvent | ErrorEvent | Done):
            last -= 1
        return self._frames[last - 1].seq

    def _snapshot(self) -> Snapshot:
        p = self.progress
        return Snapshot(reasoning=p.reasoning, content=p.text, citations=[c.payload() for c in p.citations])

    def _watch(self, grace: float) -> None:
        """Without a follower, the grace period begins."""
        if self._followers == 0 and self.finished_at is None:
            if self._timer:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(grace, self._abandon)

    def _abandon(self) -> None:
        if self._followers or self.finished_at is not None:
            return
        left = self.followed_elsewhere - asyncio.get_running_loop().time()
        if left > 0:
            self._watch(left)
        else:
            self.stop("abandoned")
