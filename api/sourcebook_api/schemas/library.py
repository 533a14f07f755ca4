"""Notebooks, sources, and what was read from them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints

from sourcebook.counting import Counts
from sourcebook.notebooks import Notebook
from sourcebook_api.schemas.common import Body, Metadata, Plain, Problem, Shown, StoredProblem

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), Plain]
Description = Annotated[str, Field(max_length=10_000), Plain]
FileName = Annotated[str, Field(min_length=1, max_length=500), Plain]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), Plain]
Tags = Annotated[list[Tag], Field(max_length=50)]


class NewNotebook(Body):
    """A notebook to make."""

    title: Title
    description: Description = ""
    pipeline: Annotated[str, Field(max_length=100)] = "default"
    metadata: Metadata = Field(default_factory=dict)


class NotebookChanges(Body):
    """What is to be changed; what is left out stays."""

    title: Title | None = None
    description: Description | None = None
    metadata: Metadata | None = None


class CountsShown(Shown):
    """How much lies in a notebook. `working`: sources on their way; `conversations`: this owner's own."""

    sources: int
    ready: int
    failed: int
    working: int
    notes: int
    conversations: int


class NotebookShown(Shown):
    """A notebook. `version` goes up with every edit, and is its ETag.

    `stale`: its pipeline has moved on, and it answers from the index that it has until it is reindexed. `used_at`: when
    it was last asked, searched or changed; a question counts to the minute. `counts`, where they were asked for.
    """

    id: str
    title: str
    description: str
    pipeline: str
    stale: bool
    metadata: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    used_at: datetime
    counts: CountsShown | None = None

    @classmethod
    def of(cls, notebook: Notebook, *, stale: bool, counts: Counts | None = None) -> NotebookShown:
        """A notebook as it is shown."""
        return cls.model_validate({**vars(notebook), "stale": stale, "counts": counts})


class NewShare(Body):
    """What another owner may do with a notebook: read it, or write into it too."""

    permission: Literal["read", "write"]


class ShareShown(Shown):
    """One other owner's part in a notebook."""

    owner: str
    permission: str
    created_at: datetime


class SourceChanges(Body):
    """What is to be changed; what is left out stays. Filters find the new values once the source is indexed again."""

    name: FileName | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None


class NewText(Body):
    """Pasted text, to become a source. Filters know it by its `tags` and `metadata`."""

    name: FileName
    tags: Tags = Field(default_factory=list)
    metadata: Metadata = Field(default_factory=dict)
    text: Annotated[str, Field(min_length=1), Plain]


class NewUrl(Body):
    """An address, to be fetched once and become a source."""

    url: Annotated[str, Field(min_length=1, max_length=8000), Plain]
    tags: Tags = Field(default_factory=list)
    metadata: Metadata = Field(default_factory=dict)


class DocumentShown(Shown):
    """What was read from a source. `length` is in code points; `parser` has the name and version of what read it."""

    id: str
    length: int
    parser: str
    metadata: dict[str, Any]
    warnings: list[dict[str, Any]]


class Password(Body):
    """For a file that needs one. It is kept in memory until the file was read, and never stored."""

    password: Annotated[SecretStr, Field(min_length=1, max_length=1000)] | None = None


class PendingShown(Shown):
    """A generation that is being made, or has failed, while an earlier one serves."""

    state: str
    problem: StoredProblem | None
    job_id: str | None


class SourceShown(Shown):
    """A source. `state`: queued, parsing, chunking, embedding, indexing, ready or failed; `problem` says why.

    A source that is being read again stays as it was, and `pending` tells of the new generation.
    """

    id: str
    notebook_id: str
    parent_id: str | None
    name: str
    media_type: str
    url: str | None
    size: int
    sha256: str
    tags: list[str]
    metadata: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    state: str | None
    problem: StoredProblem | None
    passages: int | None
    job_id: str | None
    progress: dict[str, Any]
    document: DocumentShown | None
    pending: PendingShown | None = None


class ReadAgain(Shown):
    """Whether a source is read again, by which job, and the source as it is until then."""

    changed: bool
    job_id: str | None
    source: SourceShown


class Accepted(Shown):
    """What became of one file: a source (new, or the one with the same bytes), or a problem.

    `created`: it is to be read, as it is new, or had failed and is tried again under the id that it has.
    """

    name: str
    created: bool = False
    source: SourceShown | None = None
    problem: Problem | None = None


class Deleting(Shown):
    """The job that removes what is left of a source, which is invisible already."""

    job_id: str


class PlaceRange(Shown):
    """`text[start:end]`, in the document's code points, stands at `place` in the original file."""

    start: int
    end: int
    place: dict[str, Any]


class TextRange(Shown):
    """A range of a document's text. All offsets are code points of the whole document.

    `before` and `after`: what stands around it, where `context` asked for that.
    """

    source_id: str
    document_id: str
    length: int
    start: int
    end: int
    text: str
    before: str | None = None
    after: str | None = None
    places: list[PlaceRange] | None = None


class PassageShown(Shown):
    """A passage: the unit that is searched. `text` stands at `[start, end)` of its document."""

    passage_id: str
    source_id: str
    notebook_id: str
    document_id: str
    ordinal: int
    title: str
    start: int
    end: int
    text: str
    context: str
    places: list[dict[str, Any]]


class FoundPassage(PassageShown):
    """A passage with its fused score, 0 to 1, and each leg's own."""

    score: float
    scores: dict[str, float]
