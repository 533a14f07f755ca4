"""Characters that people do not see and models read: they carry instructions past the reader."""

from __future__ import annotations

import re

# C0 and C1 controls but tab and line feed; soft hyphen; zero-width, joiners and bidi marks and overrides; invisible
# operators; interlinear annotation; variation selectors and tags, which spell out whole sentences (ASCII smuggling).
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_HIDDEN_ASCII = re.compile("[\x00-\x08\x0b-\x1f\x7f]")  # the same, where there is nothing else, in a part of the time


def without_hidden(text: str) -> str:
    """The text without them. For what a model or a browser is shown; what is stored and quoted stays as it is."""
    return (_HIDDEN_ASCII if text.isascii() else _HIDDEN).sub("", text)
