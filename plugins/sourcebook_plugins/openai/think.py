"""Tells thoughts from the answer where a model writes both into its content: `<think>...</think>` at its start.

A small state machine that holds back at most the characters that may still be a tag. Once the thoughts are over, or
the first characters show that there are none, text passes through untouched.
"""

from __future__ import annotations

from typing import Literal

from sourcebook.events import Reasoning, Text

ThinkTags = Literal["auto", "open", "off"]

_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
}
_QUOTES = "`\"'"


class ThinkSplitter:
    """`auto` looks for an opening tag; `open` takes it as given (some chat templates write it into the prompt)."""

    def __init__(self, mode: ThinkTags = "auto") -> None:
        self._state: Literal["start", "inside", "after", "through"] = "start"
        self._close = ""
        self._held = ""
        self._before = ""  # the last character that was let go inside
        self._thoughts: list[str] = []
        if mode == "off":
            self._state = "through"
        elif mode == "open":
            self._enter("</think>")

    @property
    def through(self) -> bool:
        """Whether text needs no look any more."""
        return self._state == "through"

    def feed(self, text: str) -> list[Reasoning | Text]:
        """What is certain by now."""
        if self._state == "through":
            return [Text(text)]
        text, self._held = self._held + text, ""
        if self._state == "start":
            return self._start(text)
        if self._state == "inside":
            return self._inside(text, last=False)
        return self._after(text)

    def end(self, cut: bool) -> list[Reasoning | Text]:
        """What was held back. A tag that never closed was no tag: its text is the answer after all.

        `cut`: the model ran into its length limit, so there is no answer, only thoughts.
        """
        held, self._held = self._held, ""
        found: list[Reasoning | Text] = []
        if self._state == "inside":
            found = self._inside(held, last=True)
            if self._state == "inside" and not cut and self._thoughts:
                found.append(Text("".join(self._thoughts)))
        elif held and self._state == "start":
            found = [Text(held)]
        self._state = "through"
        return found

    def _enter(self, close: str) -> None:
        self._state, self._close = "inside", close

    def _start(self, text: str) -> list[Reasoning | Text]:
        bare = text.lstrip()
        for tag, close in _TAGS.items():
            if bare.startswith(tag):
                self._enter(close)
                return self._inside(bare[len(tag) :], last=False)
            if tag.startswith(bare):
                self._held = text
                return []
        self._state = "through"
        return [Text(text)]

    def _inside(self, text: str, *, last: bool) -> list[Reasoning | Text]:
        at = 0
        close = self._close
        while (at := text.find(close, at)) >= 0:
            end = at + len(close)
            before = text[at - 1] if at else self._before
            if before and before in _QUOTES:
                if end == len(text) and not last:
                    return self._let_go(text, at)  # the next character tells whether it was quoted
                if text[end : end + 1] == before:
                    at = end
                    continue
            thoughts = self._thought(text[:at])
            self._state, self._thoughts = "after", []
            return [*thoughts, *self._after(text[end:])]
        return self._let_go(text, len(text) if last else _tail(text, close))

    def _let_go(self, text: str, until: int) -> list[Reasoning | Text]:
        self._held = text[until:]
        return self._thought(text[:until])

    def _thought(self, text: str) -> list[Reasoning | Text]:
        if not text:
            return []
        self._before = text[-1]
        self._thoughts.append(text)
        return [Reasoning(text)]

    def _after(self, text: str) -> list[Reasoning | Text]:
        """White space between thoughts and answer belongs to neither."""
        text = text.lstrip()
        if not text:
            return []
        self._state = "through"
        return [Text(text)]


def _tail(text: str, tag: str) -> int:
    """Where a beginning of `tag` at the end of `text` starts; the text's length where there is none."""
    at = max(len(text) - len(tag) + 1, 0)
    while (at := text.find(tag[0], at)) >= 0:
        if tag.startswith(text[at:]):
            return at
        at += 1
    return len(text)
