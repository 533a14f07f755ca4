"""Every error that Sourcebook raises on purpose, under one root.

    SourcebookError
    ├── ConfigError                 a setting is wrong; names file, layer and key
    ├── PluginError                 a plugin cannot load, or broke its interface's contract
    ├── InputError                  what the caller sent is wrong
    │   ├── InvalidInput
    │   ├── NotFound
    │   ├── Conflict
    │   ├── TooLarge
    │   └── QuotaExceeded
    ├── AccessError
    │   ├── Unauthenticated
    │   └── Forbidden
    ├── DocumentError               this file cannot become a document
    │   ├── UnsupportedType
    │   ├── Malformed
    │   ├── Encrypted
    │   ├── NoText
    │   ├── LimitExceeded
    │   └── ParserDied
    ├── UpstreamError               another server failed us
    │   ├── LLMError
    │   ├── EmbedderError
    │   ├── RerankerError
    │   └── FetchError
    ├── StoreError                  database, index or blob store
    │   ├── IndexUnavailable
    │   └── BlobMissing
    └── Lost                        this worker no longer holds the job: somebody else does, or it was cancelled

`code` is stable and documented; `remedy` says what the reader can do. HTTP statuses are mapped in the API layer only.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SourcebookError(Exception):
    """The root. `str(error)` is one sentence for a person; `code` is for programs.

    `transient` says that the same call may succeed later; `details` is JSON-safe extra data. `advice` is the remedy
    where an error brings none of its own.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong"
    advice: ClassVar[str] = ""
    transient: bool = False

    def __init__(
        self, detail: str, *, remedy: str = "", code: str = "", transient: bool | None = None, **details: Any
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy or type(self).advice
        self.details: dict[str, Any] = details
        self._code = code
        if transient is not None:
            self.transient = transient

    @property
    def problem_code(self) -> str:
        """The stable snake_case code: the instance's own, else its class's."""
        return self._code or type(self).code

    def problem(self) -> dict[str, Any]:
        """The problem object as stored with a failed job and sent to clients, without any HTTP status."""
        problem: dict[str, Any] = {"code": self.problem_code, "title": type(self).title, "detail": self.detail}
        if self.remedy:
            problem["remedy"] = self.remedy
        return self.details | problem


class ConfigError(SourcebookError):
    """A configuration file, variable or instance is wrong; `details["issues"]` lists every place."""

    code = "config_invalid"
    title = "The configuration is not valid"


class PluginError(SourcebookError):
    """A plugin could not load, or did what its interface forbids."""

    code = "plugin_failed"
    title = "A plugin failed"


# What the caller sent.


class InputError(SourcebookError):
    """The request cannot be served as it stands."""

    code = "invalid_request"
    title = "The request is not valid"


class InvalidInput(InputError):
    """A value has the right shape and a wrong meaning."""


class NotFound(InputError):
    """There is no such thing, or it is not yours: the two are not told apart."""

    code = "not_found"
    title = "Not found"


class Conflict(InputError):
    """The thing is not in a state that allows this."""

    code = "conflict"
    title = "The state of this resource does not allow it"


class TooLarge(InputError):
    """The body is over the configured size."""

    code = "too_large"
    title = "Too large"


class QuotaExceeded(InputError):
    """A limit of this owner or of this server is reached for now."""

    code = "quota_exceeded"
    title = "A limit is reached"
    transient = True


class AccessError(SourcebookError):
    """The caller may not do this."""

    code = "forbidden"
    title = "Not allowed"


class Unauthenticated(AccessError):
    """No key, or one that is unknown, revoked or expired."""

    code = "unauthenticated"
    title = "A valid key is needed"


class Forbidden(AccessError):
    """The key is good, and lacks the permission."""


# What a file can do to us.


class DocumentError(SourcebookError):
    """A source that cannot become a document: final, until its bytes or the parsers change."""

    code = "document_failed"
    title = "The source could not be read"


class UnsupportedType(DocumentError):
    """No enabled parser reads this media type."""

    code = "unsupported_type"
    title = "No parser reads this type"
    advice = "Convert it to a type that is read, or install and enable a parser plugin for this one."


class Malformed(DocumentError):
    """The bytes are not what their type promises."""

    code = "corrupt"
    title = "The file is damaged"
    advice = "Open it in the program that made it, save it anew, and upload that."


class Encrypted(DocumentError):
    """A password is needed, or the one given is wrong."""

    code = "encrypted"
    title = "The file is encrypted"
    advice = "Give its password with the upload, or save it without one."


class NoText(DocumentError):
    """Nothing to read: an empty file, or (code `no_text_layer`) pages that are images."""

    code = "no_text"
    title = "The file holds no text"
    advice = "Upload a file with text in it."


class LimitExceeded(DocumentError):
    """Over a limit. Codes: `timeout`, `out_of_memory`, `too_large_unpacked`, `too_many_pages`, `text_too_long`,
    `too_many_members`, `nested_too_deeply`; where none of them fits, `limit_exceeded`.
    """

    code = "limit_exceeded"
    title = "The file goes over a limit"
    advice = "Split the file and upload its parts."


class ParserDied(DocumentError):
    """The jailed parser crashed or was killed."""

    code = "parser_died"
    title = "The parser died on this file"
    advice = "Save the file in another format and upload that; the server's log may say more."


# What other servers do to us.


class UpstreamError(SourcebookError):
    """A server that we called failed. `retry_after` is in seconds where the server gave one."""

    code = "upstream_failed"
    title = "A server that Sourcebook depends on failed"

    def __init__(self, detail: str, *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(detail, **details)
        self.retry_after = retry_after


class LLMError(UpstreamError):
    """The language model's server failed: refused, timed out, broke off or spoke nonsense."""

    code = "llm_failed"
    title = "The language model failed"


class EmbedderError(UpstreamError):
    """The embedding server failed."""

    code = "embedder_failed"
    title = "The embedding model failed"


class RerankerError(UpstreamError):
    """The reranking server failed."""

    code = "reranker_failed"
    title = "The reranker failed"


class FetchError(UpstreamError):
    """A page could not be fetched, or its address is not one we connect to."""

    code = "fetch_failed"
    title = "The page could not be fetched"


# What our own stores do to us.


class StoreError(SourcebookError):
    """The database, an index or the blob store failed."""

    code = "store_failed"
    title = "A store failed"
    transient = True


class IndexUnavailable(StoreError):
    """The index process or server does not answer."""

    code = "index_unavailable"
    title = "The index does not answer"


class BlobMissing(StoreError):
    """The stored bytes of a source are gone or cut."""

    code = "blob_missing"
    title = "The stored file is missing"
    transient = False


class Lost(SourcebookError):
    """The lease was taken over or the job cancelled; whoever sees this stops at once and writes nothing."""

    code = "lease_lost"
    title = "Another worker holds this job"
