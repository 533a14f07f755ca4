"""How texts become PostgreSQL's full text: a configuration by language, and scripts without spaces cut into pairs."""

from __future__ import annotations

import re

CONFIGURATIONS = {
    "ar": "arabic", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish", "fi": "finnish",
    "fr": "french", "hu": "hungarian", "it": "italian", "nb": "norwegian", "nl": "dutch", "nn": "norwegian",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sv": "swedish", "tr": "turkish",
}  # fmt: skip
"""Those that every PostgreSQL since 12 brings along."""

UNSPACED = ("zh", "ja", "th", "lo", "km", "my")
"""Languages whose words nothing parts."""

_RUN = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_WORD = re.compile(r"\w+")


def configuration(language: str, default: str) -> str:
    """For a language tag such as `de-AT`; what is unspaced is not stemmed at all."""
    primary = language.lower().replace("_", "-").split("-")[0]
    return "simple" if primary in UNSPACED else CONFIGURATIONS.get(primary, default)


def cut(text: str) -> str:
    """With each run of a script without spaces as overlapping pairs of characters, and nothing that SQL refuses."""
    clean = text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
    return _RUN.sub(lambda run: " " + " ".join(_pairs(run[0])) + " ", clean)


def question(text: str) -> str:
    """A `tsquery` of any of the words; empty for a text without one."""
    words = dict.fromkeys(_WORD.findall(cut(text).lower()))
    return " | ".join(f"'{word}'" for word in words)


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]
