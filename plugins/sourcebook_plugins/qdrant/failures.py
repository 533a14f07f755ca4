"""What a Qdrant server's failures are to us."""

from __future__ import annotations

from sourcebook.errors import IndexUnavailable, StoreError


def translated(error: Exception, url: str) -> StoreError:
    """The error to raise in place of what qdrant-client raised."""
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    status = error.status_code if isinstance(error, UnexpectedResponse) else _grpc_status(error)
    if status in (401, 403):
        return IndexUnavailable(
            f"The Qdrant server at {url} refuses our key.",
            remedy="Set `api_key` of the index, in secrets.toml or its environment variable.",
            transient=False,
        )
    if isinstance(error, ResponseHandlingException) or status in (408, 429) or (status or 0) >= 500:
        return IndexUnavailable(f"The Qdrant server at {url} cannot be used: {_said(error)}")
    return StoreError(f"The Qdrant server failed: {_said(error)}", transient=status is None)


def _grpc_status(error: Exception) -> int | None:
    """The HTTP status that a gRPC failure would have had; None for what is no failure of the server's."""
    code = getattr(error, "code", None)
    name = getattr(code(), "name", "") if callable(code) else ""
    known = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "INVALID_ARGUMENT": 400, "NOT_FOUND": 404}
    return known.get(name, 503) if name else None


def _said(error: Exception) -> str:
    text = getattr(error, "reason_phrase", "") or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]
