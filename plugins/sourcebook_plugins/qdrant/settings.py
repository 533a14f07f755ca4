"""The settings of an index with `use = "qdrant"`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from sourcebook.interfaces import ComponentSettings

Language = Literal[
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "turkish",
]  # fmt: skip


class QdrantSettings(ComponentSettings):
    """The section of an instance with `use = "qdrant"`. Without a `url` it is embedded, below the data folder.

    English, German, Arabic and Chinese are all found without configuration: a document is stemmed by its own language,
    a script without spaces is cut into pairs of characters (`terms.py`), and English stemming of what has no language
    that can be told gains a point or two on English and does not hurt the rest.
    """

    url: str = Field("", description="Of a Qdrant server. Empty: embedded, below the data folder.")
    language: Language = Field("english", description="Stemmer and stop words for texts whose language is not known.")
    quantization: Literal["auto", "turbo4", "int8", "none"] = Field(
        "auto",
        description="A copy of an eighth (`turbo4`) or a quarter (`int8`) of the size is scanned, and what it finds is "
        "scored by the originals. `auto`: `turbo4` where embedded, `int8` on a server, since old ones know no other.",
    )
    on_disk: bool = Field(
        True,
        description="Whether the original vectors may stay on the disk where there is a copy, and the term index "
        "in the system's cache.",
    )
    timeout_seconds: float = Field(30, gt=0, description="The longest that one call may take.")
    idle_seconds: float = Field(
        30, ge=0, le=86_400, description="Embedded: how long the index process outlives its last client."
    )
    compact_above: int = Field(
        20_000, ge=0, description="Embedded: passages that are new since the last compaction, to begin one. 0: never."
    )
    hnsw_above: int = Field(
        1_000_000, ge=0, description="Embedded: passages from which on a compaction builds an HNSW graph. 0: never."
    )
    api_key: SecretStr | None = Field(None, description="Server: its API key.")
    # Not `\w{1,200}`: pydantic's regular expressions would take 18 MiB and 60 ms for that.
    collection: str = Field(
        "sourcebook", pattern=r"^[A-Za-z0-9_.-]+$", max_length=200, description="Server: the collection's name."
    )
    grpc: bool = Field(False, description="Server: speak gRPC (untested here).")
    grpc_port: int = Field(6334, ge=1, le=65535, description="Server: its gRPC port.")
    shards: int | None = Field(None, ge=1, description="Server: shards of a new collection; none lets it decide.")
    replicas: int | None = Field(None, ge=1, description="Server: replicas of each shard of a new collection.")
    write_consistency: int | None = Field(
        None, ge=1, description="Server: replicas that must confirm a write, of a new collection."
    )

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return url.rstrip("/")
