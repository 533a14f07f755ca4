"""Jobs, keys, plugins, configuration and health."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, ConfigDict, Field

from sourcebook.owners import Permission
from sourcebook_api.schemas.common import Body, Plain, Shown, StoredProblem


class JobShown(Shown):
    """A job. `state`: queued, leased, done, failed or cancelled.

    `progress` is for people: `stage`, the `page` that a long file is read at, and where there is something to count
    `done` of `total` passages, `left`, `rate` (a second) and `left_seconds`.
    """

    id: str
    kind: str
    state: str
    notebook_id: str | None
    source_id: str | None
    attempt: int
    progress: dict[str, Any]
    problem: StoredProblem | None
    created_at: datetime
    updated_at: datetime


class ProgressShown(Shown):
    """A notebook's sources by what is happening to them. `done` of `total` are over since this was followed.

    `rate` is sources a second and `left_seconds` an estimate, where there is one. `running` shows the first jobs that
    are being done: `job_id`, `source_id`, `name`, `stage`, `page`, and `done` of `total` passages with `rate` and
    `left`.
    """

    queued: int
    working: int
    ready: int
    failed: int
    done: int
    total: int
    left: int
    rate: float | None
    left_seconds: float | None
    running: list[dict[str, Any]]


class KeyLimits(Body):
    """A key's own limits: requests a minute, and requests at a time. 0 is without a limit."""

    requests: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    concurrent: Annotated[int, Field(ge=0, le=100_000)] | None = None

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class NewKey(Body):
    """A key to make, for an owner who is made if new."""

    owner: Annotated[str, Field(min_length=1, max_length=200), Plain]
    permissions: Annotated[list[Permission], Field(min_length=1, max_length=3)]
    name: Annotated[str, Field(max_length=200), Plain] = ""
    expires_at: AwareDatetime | None = None
    limits: KeyLimits | None = None


class KeyShown(Shown):
    """A key, without its secret. `used_at` is to the minute; without `limits`, those of the server hold."""

    id: str
    owner: str
    name: str
    permissions: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    limits: KeyLimits | None


class KeyMade(KeyShown):
    """A new key with its secret, which is shown this once."""

    secret: str


class PluginShown(Shown):
    """A plugin. `state`: active, off or failed, with the `reason`.

    `overrides`: what it is asked for before a built-in; `warnings`: deprecated hooks that it uses; `skipped`: how often
    a hook of it failed and was passed over; `import_ms`: what loading it took.
    """

    name: str
    distribution: str
    version: str
    state: str
    reason: str
    hooks: list[str]
    components: dict[str, list[str]]
    overrides: list[str]
    warnings: list[str]
    skipped: dict[str, int]
    import_ms: float


class ComponentShown(Shown):
    """A component of a pipeline: the name of the instance, and the class that it `use`s."""

    name: str
    use: str


class PipelineShown(Shown):
    """What notebooks can be made on. `generates`: an answer is written by a model; else it is quoted from passages."""

    name: str
    chunker: ComponentShown
    embedder: ComponentShown | None
    retrievers: list[ComponentShown]
    reranker: ComponentShown | None
    llms: list[ComponentShown]
    generates: bool


class Me(Shown):
    """Who asks, and what they may. `local`: a server without keys serves its own machine; `version` is the server's."""

    owner: str
    permissions: list[Permission]
    local: bool
    version: str


class ConfigurationShown(Shown):
    """Every setting, secrets masked, and the layer that set it."""

    settings: dict[str, Any]
    origins: dict[str, str]
    files: list[str]


class ConfigurationReloaded(Shown):
    """What a reload did, in the process that answers.

    `changed` names keys, never a value; `opened` the components that were built anew, as `llms.fast`. `number` counts
    the configurations that the process has had; `in_use` those that it works with: 1 where no run is left of before.
    """

    changed: list[str]
    opened: list[str]
    number: int
    in_use: int
    at: datetime


class Health(Shown):
    """`status` is `ok`; `parts` names each part's state."""

    status: str
    parts: dict[str, str] = Field(default_factory=dict)


class About(Shown):
    """What this is and where to look.

    `authenticated`: whether this request is somebody's, by its key or since none is needed. A client can ask this
    before it asks for a key.
    """

    name: str
    version: str
    api: str
    documentation: str
    openapi: str
    authenticated: bool
