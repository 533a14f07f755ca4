"""What an export says of its own accord, in the languages of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sourcebook.documents import KINDS

Language = Literal["en", "de"]


@dataclass(frozen=True)
class Words:
    """The headings and remarks of one language; `kinds` are those of a place, as `Place.said` wants them."""

    conversation: str
    references: str
    incomplete: str
    removed: str
    unsupported: str
    kinds: tuple[str, ...]


WORDS: Mapping[Language, Words] = {
    "en": Words(
        "Conversation",
        "References",
        "This answer is incomplete.",
        "(the source has been removed)",
        "(does not support what was said)",
        KINDS,
    ),
    "de": Words(
        "Gespräch",
        "Belege",
        "Diese Antwort ist unvollständig.",
        "(die Quelle wurde gelöscht)",
        "(stützt das Gesagte nicht)",
        ("Seite", "Folie", "Blatt", "Teil", "Absatz"),
    ),
}
