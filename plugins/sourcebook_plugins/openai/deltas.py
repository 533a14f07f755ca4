"""Turns the chunks of a chat stream into deltas, whoever sent them.

Servers agree on little: thoughts come as `reasoning_content` (DeepSeek, llama.cpp, LM Studio), `reasoning` (vLLM,
Ollama, OpenRouter), `thinking`, as typed items of a content list (Mistral) or as `reasoning_details` (OpenRouter,
beside `reasoning`); any key may be missing, null or empty; usage comes on any chunk, once or growing. So nothing is
taken because it is present, only because it is not empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from sourcebook.events import Delta, Finish, Reasoning, Text, ToolCall, Usage

_FINISH = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}


def parse(data: bytes) -> list[Any]:
    """The JSON values of one event: one, or one a line where a server forgot the blank lines. Raises `ValueError`.

    A lone surrogate (half an emoji, where a server cut by UTF-16) is kept for `Normaliser` to put together; orjson
    refuses it, so the slow parser reads that event.
    """
    try:
        return [orjson.loads(data)]
    except orjson.JSONDecodeError:
        if b"\n" in data:
            return [value for line in data.split(b"\n") if line.strip() for value in parse(line)]
        if b"\\u" not in data:
            raise
        return [json.loads(data)]


class Normaliser:
    """One answer's chunks. `finish` and `usage` are the last that came; they are told at the end, in that order.

    `size` counts the characters of thoughts, text and tool arguments.
    """

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.usage: Usage | None = None
        self.size = 0
        self._calls: list[_Call] = []
        self._high = ""  # the first half of a surrogate pair
        self._spoke = False

    def feed(self, chunk: Mapping[str, Any]) -> list[Delta]:
        """Thoughts and text of one chunk, thoughts first."""
        if usage := chunk.get("usage"):
            self._count(usage)
        choices = chunk.get("choices")
        if not choices or not isinstance(choices, list) or not isinstance(choices[0], dict):
            self._count_elsewhere(chunk)
            return []
        choice = choices[0]
        if reason := choice.get("finish_reason"):
            self.finish = Finish(_FINISH.get(str(reason).lower(), "other"), str(reason))
            self._count_elsewhere(chunk)
        delta = choice.get("delta")
        if not delta and not self._spoke:
            delta = choice.get("message")  # an answer in one piece
        if isinstance(delta, dict):
            return self._read(delta)
        return self._text(choice["text"]) if isinstance(choice.get("text"), str) else []

    def end(self) -> list[Delta]:
        """What is told last: tool calls, the reason, the usage."""
        deltas: list[Delta] = [ToolCall(c.id, c.name, "".join(c.arguments)) for c in self._calls]
        if self.finish is not None:
            deltas.append(self.finish)
        if self.usage is not None:
            deltas.append(self.usage)
        return deltas

    def _read(self, delta: Mapping[str, Any]) -> list[Delta]:
        content = delta.get("content")
        thought = delta.get("reasoning_content") or delta.get("reasoning") or delta.get("thinking")
        if calls := delta.get("tool_calls"):
            self._call(calls)
        if old_call := delta.get("function_call"):
            self._call([{"index": 0, "function": old_call}])
        if isinstance(content, str) and content and not thought and "reasoning_details" not in delta:
            return self._text(content)
        return self._read_slowly(delta, thought, content)

    def _read_slowly(self, delta: Mapping[str, Any], thought: Any, content: Any) -> list[Delta]:
        found: list[Delta] = []
        items = content if isinstance(content, list) else []
        told = _plain(thought)
        if not told and not any(_is_thought(item) for item in items):
            told = "".join(_plain(item) for item in _listed(delta.get("reasoning_details")))
        if told:
            found += self._thought(told)
        for item in items:
            if not _is_thought(item):
                found += self._text(_plain(item))
            elif not thought:
                found += self._thought(_plain(item))
        if isinstance(content, str):
            found += self._text(content)
        return found + self._text(_plain(delta.get("refusal")))

    def _thought(self, text: str) -> list[Delta]:
        text = self._whole(text)
        self.size += len(text)
        return [Reasoning(text)] if text else []

    def _text(self, text: str) -> list[Delta]:
        text = self._whole(text)
        if not text:
            return []
        self._spoke = True
        self.size += len(text)
        return [Text(text)]

    def _whole(self, text: str) -> str:
        """Put surrogate pairs together; what stays alone becomes U+FFFD."""
        if not self._high:
            if text.isascii():
                return text
            try:
                text.encode()
                return text
            except UnicodeEncodeError:
                pass
        if not text:
            return text
        text, self._high = self._high + text, ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _call(self, pieces: Any) -> None:
        """Servers route by id, by index, or by neither; then it belongs to the call that is being told."""
        for piece in _listed(pieces):
            if not isinstance(piece, dict):
                continue
            function = piece.get("function")
            if not isinstance(function, dict):
                function = {}
            call = self._find(str(piece.get("id") or ""), piece.get("index"), str(function.get("name") or ""))
            arguments = function.get("arguments")
            if arguments and not isinstance(arguments, str):  # an object where a string is due
                arguments = json.dumps(arguments)
            call.arguments.append(arguments or "")
            self.size += len(call.arguments[-1])

    def _find(self, identity: str, index: Any, name: str) -> _Call:
        calls = self._calls
        found = next((c for c in calls if identity and c.id == identity), None)
        if found is None and isinstance(index, int):
            found = next((c for c in calls if c.index == index and (not identity or not c.id)), None)
        elif found is None and not identity and not name and calls:
            found = calls[-1]
        if found is None:
            found = _Call(identity, index if isinstance(index, int) else None)
            calls.append(found)
        found.id = found.id or identity
        found.name = found.name or name
        return found

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            details = usage.get("completion_tokens_details")
            thoughts = details.get("reasoning_tokens") if isinstance(details, dict) else usage.get("reasoning_tokens")
            self.usage = Usage(_int(usage.get("prompt_tokens")), _int(usage.get("completion_tokens")), _int(thoughts))

    def _count_elsewhere(self, chunk: Mapping[str, Any]) -> None:
        """Groq's `x_groq.usage`; llama.cpp's `timings`, where that is all there is."""
        groq, timings = chunk.get("x_groq"), chunk.get("timings")
        if isinstance(groq, dict):
            self._count(groq.get("usage"))
        elif self.usage is None and isinstance(timings, dict):
            prompt = _int(timings.get("cache_n")) + _int(timings.get("prompt_n"))
            self.usage = Usage(prompt, _int(timings.get("predicted_n")))


class _Call:
    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, identity: str, index: int | None) -> None:
        self.id = identity
        self.index = index
        self.name = ""
        self.arguments: list[str] = []


def _is_thought(item: Any) -> bool:
    return isinstance(item, dict) and str(item.get("type")) in ("thinking", "reasoning", "reasoning_content")


def _plain(value: Any) -> str:
    """The text in a string, a typed item, or a list of them. Encrypted items and references have none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_plain, value))
    if isinstance(value, dict):
        return next(
            (found for key in ("text", "thinking", "summary", "content") if (found := _plain(value.get(key)))), ""
        )
    return ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _int(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value == value and 0 <= value < 2**53 else 0
