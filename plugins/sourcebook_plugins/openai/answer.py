"""One streamed answer: the bytes of a response in, deltas out, and the verdict on whether it was whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sourcebook.errors import LLMError
from sourcebook.events import Delta, Finish, Text
from sourcebook.upstream import Failures, is_error
from sourcebook_plugins.openai.deltas import Normaliser, parse
from sourcebook_plugins.openai.sse import Decoder, ServerEvent, TooLong
from sourcebook_plugins.openai.think import ThinkSplitter, ThinkTags

MAX_ANSWER = 32 * 1024 * 1024
"""Characters of thoughts, text and tool arguments together; bytes where the answer is one JSON body."""
MAX_JUNK = 8
"""Events that are not JSON at all (`ping`) and are skipped."""


class Answer:
    """Feed it chunks until `done` or the end of the body, then `end` it. Both raise `LLMError`.

    A body that is JSON in place of an event stream is read as an answer in one piece: some servers ignore `stream`.
    """

    def __init__(self, tags: ThinkTags, headers: Mapping[str, str], failures: Failures[LLMError]) -> None:
        self.done = False
        self._failures = failures
        self._type = headers.get("content-type", "").lower()
        self._decoder = Decoder()
        self._chunks = Normaliser()
        self._splitter = ThinkSplitter(tags)
        self._begun = False
        self._whole: list[bytes] | None = None
        self._whole_size = 0
        self._events = 0
        self._junk = 0

    @property
    def finished(self) -> bool:
        """Whether the server said why it stopped: what may still come is usage."""
        return self._chunks.finish is not None

    def feed(self, chunk: bytes) -> list[Delta]:
        """The deltas in this chunk."""
        if not self._begun:
            chunk = chunk.lstrip()
            if not chunk:
                return []
            self._begin(chunk)
        if self._whole is not None:
            self._whole.append(chunk)
            self._whole_size += len(chunk)
            if self._whole_size > MAX_ANSWER:
                raise self._too_long()
            return []
        try:
            events = self._decoder.feed(chunk)
        except TooLong as error:
            raise self._failures.make("protocol", f"The answer cannot be read: {error}.") from error
        return self._take(events)

    def end(self) -> list[Delta]:
        """The last deltas. Raises `llm_truncated` where the server neither gave a reason to stop nor said `[DONE]`."""
        deltas: list[Delta] = []
        if not self.done:
            if self._whole is not None:
                deltas = self._take([ServerEvent(b"", b"".join(self._whole))])
                self.done = True  # whole JSON cannot be cut
            else:
                deltas = self._take(self._closed())
        if not self._events:
            raise self._failures.make("protocol", "The server answered with success and without any content.")
        if not self.done and not self.finished:
            raise self._failures.make("truncated", "The server closed the connection in the middle of its answer.")
        if self._chunks.finish is None:
            self._chunks.finish = Finish("stop")
        deltas += self._splitter.end(cut=self._chunks.finish.reason == "length")
        return deltas + self._chunks.end()

    def _closed(self) -> list[ServerEvent]:
        try:
            return self._decoder.close()
        except TooLong as error:
            raise self._failures.make("protocol", f"The answer cannot be read: {error}.") from error

    def _begin(self, head: bytes) -> None:
        self._begun = True
        if "html" in self._type or head.startswith(b"<"):
            raise self._failures.make(
                "protocol",
                "The server sent a web page in place of an answer.",
                remedy="Check `base_url`: it ends in /v1.",
            )
        if head[:1] in (b"{", b"[") and not any(word in self._type for word in ("ndjson", "jsonl", "json-seq")):
            self._whole = []

    def _take(self, events: list[ServerEvent]) -> list[Delta]:
        deltas: list[Delta] = []
        for name, data in events:
            if data == b"[DONE]" or (len(data) < 16 and data.strip() == b"[DONE]"):
                self.done = True
                break
            for chunk in self._parsed(name, data):
                found = self._chunks.feed(chunk)
                deltas += found if self._splitter.through else self._split(found)
                finish = self._chunks.finish
                if finish is not None and finish.raw.lower() == "error":
                    raise self._failures.reported(chunk["choices"][0].get("error") or chunk)
        if self._chunks.size > MAX_ANSWER:
            raise self._too_long()
        return deltas

    def _split(self, found: list[Delta]) -> list[Delta]:
        deltas: list[Delta] = []
        for delta in found:
            if isinstance(delta, Text):
                deltas += self._splitter.feed(delta.text)
            else:
                deltas.append(delta)
        return deltas

    def _parsed(self, name: bytes, data: bytes) -> list[Any]:
        try:
            values = parse(data)
        except ValueError as error:
            if name == b"error":
                raise self._failures.reported({"message": data.decode("utf-8", "replace")}) from error
            if data.lstrip()[:1] in (b"{", b"["):
                # Skipping it would leave a hole in the answer that nobody sees.
                raise self._failures.make("protocol", "The server sent an event that is not valid JSON.") from error
            self._junk += 1
            if self._junk > MAX_JUNK:
                raise self._failures.make("protocol", "The server does not send JSON events.") from error
            return []
        chunks = [value for value in values if isinstance(value, dict)]
        for chunk in chunks:
            if name == b"error" or is_error(chunk):
                raise self._failures.reported(chunk)
        self._events += len(chunks)
        return chunks

    def _too_long(self) -> LLMError:
        return self._failures.make("protocol", f"The answer is over {MAX_ANSWER} bytes.")
