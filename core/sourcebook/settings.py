"""The settings as pydantic models: every key, with its type, its bounds and its default.

`sourcebook.configuration` fills them from the layers.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator

from sourcebook.filters import FieldType, check_keys
from sourcebook.setting_checks import (
    ADDRESS,
    COUNTERS,
    MOUNT,
    NAME,
    check_database,
    check_file_types,
    check_hosts,
    check_origins,
    check_weights,
)

Name = Annotated[str, StringConstraints(pattern=NAME)]
Instance = dict[str, Any]
"""`use` names the class (default: the instance's own name); the rest is that class's Settings."""

KINDS = ("parsers", "chunkers", "embedders", "retrievers", "rerankers", "llms", "fetchers", "blob_stores")


class Section(BaseModel):
    """Unknown keys are errors in every section."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Storage(Section):
    """`path` is the data folder. `database` is a URL of PostgreSQL or SQLite; empty means SQLite in the data folder.

    `stray_age`: seconds for which complete bytes may wait for their source's row before they are removed.
    """

    path: Path = Path("./sourcebook-data")
    database: str = ""
    blobs: Name = "files"
    stray_age: float = Field(default=3600.0, ge=0.1)

    _known = field_validator("database")(check_database)


class Server(Section):
    """Sizes in bytes. `allowed_hosts` are the Host names that are answered; loopback names always are.

    `trusted_proxies`: addresses and networks whose word on who asks (`X-Forwarded-For`) is taken.

    `require_if_match` refuses edits that do not say which version they are based on. `audit_log` is relative to the
    data folder; empty writes none. `workers` are processes on one port. After SIGTERM, answers may go on for `drain`
    seconds; then closing gets `shutdown_grace`.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    max_upload: int = Field(default=512 * 1024 * 1024, gt=0)
    max_body: int = Field(default=4 * 1024 * 1024, gt=0)
    require_if_match: bool = False
    audit_log: str = "audit.log"
    workers: int = Field(default=1, ge=1, le=64)
    drain: float = Field(default=25.0, ge=0)
    shutdown_grace: float = Field(default=5.0, ge=0)

    _hosts = field_validator("allowed_hosts")(check_hosts)
    _origins = field_validator("allowed_origins")(check_origins)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ip_network(proxy)
            except ValueError:
                raise ValueError("each is an address or a network, such as 10.0.0.7 or 10.0.0.0/8") from None
        return proxies


class Limits(Section):
    """What one key, one address, one owner and all together may use. 0 is without a limit.

    `in_flight` requests are there at a time, open streams among them; of these `working` are worked on, which leaves
    out those that wait for a model or a client. The others wait in line, for `patience` seconds at most.

    A key's own `requests` and `concurrent` come before these; `storage` of an owner named in `owners` too.
    """

    requests: int = Field(default=6000, ge=0)
    concurrent: int = Field(default=256, ge=0)
    failures: int = Field(default=120, ge=0)
    in_flight: int = Field(default=512, ge=0)
    working: int = Field(default=32, ge=0)
    patience: float = Field(default=2.0, ge=0)
    storage: int = Field(default=0, ge=0)
    sources: int = Field(default=0, ge=0)
    queued: int = Field(default=100_000, ge=0)
    owners: dict[str, int] = {}
    counters: str = Field(default="memory://", pattern=COUNTERS)


class PluginSettings(Section):
    """`enabled` lists the third-party distributions that may load; `disabled` switches built-in modules off.

    `mount` puts a plugin's routes at another path than `/api/v1/x/<plugin>`. Deadlines are in seconds:
    `import_deadline` for a plugin's import and each hook that registers, `open_deadline` for each `startup` and `open`.
    """

    enabled: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    mount: dict[str, Annotated[str, StringConstraints(pattern=MOUNT)]] = {
        "mcp": "/mcp",
        "webui": "/",
    }
    import_deadline: float = Field(default=60.0, gt=0)
    open_deadline: float = Field(default=600.0, gt=0)  # a model may be fetched


class Search(Section):
    """`limit` passages are kept of the fused legs, each `candidates` deep. `threshold` is on the fused score, 0 to 1.

    A reranker, or `diversity`, chooses among `overfetch` times `limit`.

    `feedback`: so many of the best passages move the question's vector towards theirs, and the dense legs are searched
    once more with it.

    `relevance`: what a passage needs to be put before the model, a share of the question's words or the score of a leg.
    """

    limit: int = Field(default=8, ge=1, le=100)
    mode: Literal["hybrid", "lexical", "dense"] = "hybrid"
    candidates: int = Field(default=100, ge=1, le=1000)
    overfetch: int = Field(default=4, ge=1, le=20)
    fusion: Literal["distribution", "rrf"] = "distribution"
    fusion_k: int = Field(default=60, ge=1)
    weights: dict[str, float] = {}
    feedback: int = Field(default=0, ge=0, le=10)
    threshold: float = Field(default=0.0, ge=0, le=1)
    relevance: dict[str, float] = {"words": 0.35}
    diversity: float = Field(default=0.0, ge=0, le=1)
    neighbours: int = Field(default=0, ge=0, le=5)
    prefer_parent: bool = True

    _weighed = field_validator("weights")(check_weights)


class Cache(Section):
    """What is remembered, at most: searches and vectors of questions in memory, vectors of passages in SQL."""

    queries: int = Field(default=256, ge=0, le=100_000)
    embeddings: int = Field(default=1_000_000, ge=0)


class Prompts(Section):
    """Paths of Jinja2 templates; None means the packaged one."""

    system: Path | None = None
    question: Path | None = None
    condense: Path | None = None


class Pipeline(Section):
    """A named wiring of component instances. `embedder = ""` is lexical retrieval only.

    `reindex = "auto"` builds notebooks anew, at the next start or reload, that an edit of this pipeline has made stale.
    """

    chunker: Name = "markdown"
    embedder: Name | Literal[""] = ""
    retrievers: tuple[Name, ...] = Field(default=("qdrant",), min_length=1)
    reranker: Name | Literal[""] = ""
    llm: tuple[Name, ...] = Field(default=("extractive",), min_length=1)
    parsers: dict[str, tuple[Name, ...]] = {}
    reindex: Literal["manual", "auto"] = "manual"
    search: Search = Search()
    prompts: Prompts = Prompts()

    _looked_up = field_validator("parsers")(check_file_types)


class Jobs(Section):
    """Seconds, but for counts. A lease that is not renewed in time is taken over.

    `queue` sources may wait, whoever's they are; more are refused until some are done. `keep_replaced` is how long a
    reindexed notebook can be rolled back.
    """

    workers: int = Field(default=2, ge=0, le=64)
    lease: float = Field(default=30.0, gt=1)
    attempts: int = Field(default=5, ge=1)
    backoff: float = Field(default=2.0, gt=0)
    poll: float = Field(default=1.0, gt=0)
    batch: int = Field(default=64, ge=1, le=500)
    queue: int = Field(default=100_000, ge=1)
    keep_replaced: float = Field(default=86_400.0, ge=0)


class Grant(Section):
    """What a parser with `isolation = "worker"` may do: seconds, bytes, folders. By the instance's name.

    Its process is long-lived, and replaced after `recycle` documents; `threads` is for its numeric libraries.
    """

    network: bool = False
    read: tuple[Path, ...] = ()
    environment: dict[str, str] = {}
    wall: float = Field(default=600.0, gt=0)
    memory: int = Field(default=8 * 1024 * 1024 * 1024, gt=0)
    threads: int = Field(default=1, ge=1)
    recycle: int = Field(default=100, ge=1)


class Jail(Section):
    """What one document may cost: seconds and bytes. `strict` refuses to parse without every layer of confinement.

    `members`, `member_bytes` and `member_seconds` are for all files inside one upload together, at whatever depth.
    """

    mode: Literal["strict", "best-effort"] = "best-effort"
    slots: int = Field(default=2, ge=1)
    wall: float = Field(default=60.0, gt=0)
    cpu: int = Field(default=30, gt=0)
    memory: int = Field(default=1024 * 1024 * 1024, gt=0)
    output: int = Field(default=256 * 1024 * 1024, gt=0)
    members: int = Field(default=1000, ge=0)
    member_bytes: int = Field(default=1024 * 1024 * 1024, ge=0)
    member_seconds: float = Field(default=600.0, gt=0)
    grants: dict[Name, Grant] = {}


class Runs(Section):
    """Seconds. Without a follower for `grace` a run is cancelled; a finished one can be replayed for `keep`.

    `log`: where the frames are kept; `auto` is `sql` on PostgreSQL and with several `server.workers`, else `memory`.
    With `sql`, any process can follow.
    `trace`: whether what a run did is stored with it, for whoever asks why.
    """

    grace: float = Field(default=5.0, ge=0)
    keep: float = Field(default=300.0, ge=0)
    heartbeat: float = Field(default=15.0, gt=0)
    log: Literal["auto", "memory", "sql"] = "auto"
    lease: float = Field(default=15.0, ge=1)
    flush: float = Field(default=0.05, ge=0.01, le=1)
    max_frames: int = Field(default=20_000, ge=100)
    max_bytes: int = Field(default=8 * 1024 * 1024, ge=64 * 1024)
    trace: bool = True


class Links(Section):
    """Links that open a citation without a key. `public_url`: how clients reach this server; `lifetime` in seconds."""

    public_url: str = Field(default="", pattern=ADDRESS)
    lifetime: float = Field(default=30 * 86_400.0, ge=60)


Level = Literal["debug", "info", "warning", "error"]
LoggerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.\w+)*$")]


class Logging(Section):
    """What the server and its workers log, to stderr. `levels` are those of single loggers, with all below them."""

    format: Literal["console", "json"] = "console"
    level: Level = "info"
    levels: dict[LoggerName, Level] = {}


class Tracing(Section):
    """Where spans are sent over OTLP (HTTP, protobuf); without an `endpoint`, nowhere. `sample`: the share of traces.

    `headers` go with every batch, such as a collector's key. `content` also tells questions, prompts and answers.
    """

    endpoint: str = Field(default="", pattern=ADDRESS)
    headers: dict[str, SecretStr] = {}
    service: str = "sourcebook"
    sample: float = Field(default=1.0, ge=0, le=1)
    content: bool = False
    timeout: float = Field(default=5.0, gt=0)


class Settings(Section):
    """All of it. Instances (`[llms.fast]`) stay plain tables here: their class validates them."""

    storage: Storage = Storage()
    server: Server = Server()
    plugins: PluginSettings = PluginSettings()
    pipelines: dict[Name, Pipeline] = {"default": Pipeline()}
    jobs: Jobs = Jobs()
    jail: Jail = Jail()
    runs: Runs = Runs()
    cache: Cache = Cache()
    limits: Limits = Limits()
    links: Links = Links()
    logging: Logging = Logging()
    tracing: Tracing = Tracing()
    hook_deadline: float = Field(default=2.0, gt=0)
    filters: dict[Name, FieldType] = {}
    parsers: dict[Name, Instance] = {}
    chunkers: dict[Name, Instance] = {}
    embedders: dict[Name, Instance] = {}
    retrievers: dict[Name, Instance] = {}
    rerankers: dict[Name, Instance] = {}
    llms: dict[Name, Instance] = {}
    fetchers: dict[Name, Instance] = {}
    blob_stores: dict[Name, Instance] = {}

    @field_validator("filters")
    @classmethod
    def _free(cls, keys: dict[str, FieldType]) -> dict[str, FieldType]:
        check_keys(keys)
        return keys
