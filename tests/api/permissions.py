"""Which permission every route needs: the table that a reviewer reads. A route that is missing here fails the suite."""

from __future__ import annotations

OPEN = {
    "GET /",
    "GET /docs",
    "GET /livez",
    "GET /open/{token}",
    "GET /open/{token}/page.png",
    "GET /openapi.json",
    "GET /readyz",
    "HEAD /livez",
    "HEAD /readyz",
}

READ = {
    "GET /api/v1/citations/{citation_id}",
    "GET /api/v1/conversations",
    "GET /api/v1/conversations/{conversation_id}",
    "GET /api/v1/conversations/{conversation_id}/export",
    "GET /api/v1/jobs/{job_id}",
    "GET /api/v1/jobs/{job_id}/events",
    "GET /api/v1/me",
    "GET /api/v1/notebooks",
    "GET /api/v1/notebooks/{notebook_id}",
    "GET /api/v1/notebooks/{notebook_id}/events",
    "GET /api/v1/notebooks/{notebook_id}/index",
    "GET /api/v1/notebooks/{notebook_id}/notes",
    "GET /api/v1/notebooks/{notebook_id}/shares",
    "GET /api/v1/notebooks/{notebook_id}/sources",
    "GET /api/v1/notes/{note_id}",
    "GET /api/v1/notes/{note_id}/export",
    "GET /api/v1/passages/{passage_id}",
    "GET /api/v1/pipelines",
    "GET /api/v1/plugins",
    "GET /api/v1/runs/{run_id}",
    "GET /api/v1/runs/{run_id}/events",
    "GET /api/v1/runs/{run_id}/trace",
    "GET /api/v1/sources/{source_id}",
    "GET /api/v1/sources/{source_id}/content",
    "GET /api/v1/sources/{source_id}/pages/{page}.png",
    "GET /api/v1/sources/{source_id}/passages",
    "GET /api/v1/sources/{source_id}/text",
    "HEAD /api/v1/sources/{source_id}/content",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "POST /api/v1/chat",
    "POST /api/v1/markdown",
    "POST /api/v1/messages/{message_id}/regenerate",
    "POST /api/v1/runs/{run_id}/cancel",
    "POST /api/v1/search",
    "POST /api/v1/sources/{source_id}/pages/{page}.png",
    "POST /v1/chat/completions",
    "POST /v1/embeddings",
}

WRITE = {
    "DELETE /api/v1/conversations/{conversation_id}",
    "DELETE /api/v1/notebooks/{notebook_id}",
    "DELETE /api/v1/notebooks/{notebook_id}/shares/{owner}",
    "DELETE /api/v1/notes/{note_id}",
    "DELETE /api/v1/sources/{source_id}",
    "PATCH /api/v1/conversations/{conversation_id}",
    "PATCH /api/v1/notebooks/{notebook_id}",
    "POST /api/v1/jobs/{job_id}/cancel",
    "POST /api/v1/jobs/{job_id}/retry",
    "PATCH /api/v1/sources/{source_id}",
    "PATCH /api/v1/notes/{note_id}",
    "POST /api/v1/conversations",
    "POST /api/v1/notebooks",
    "POST /api/v1/notebooks/example",
    "POST /api/v1/notebooks/{notebook_id}/reindex",
    "POST /api/v1/notebooks/{notebook_id}/reindex/cancel",
    "POST /api/v1/notebooks/{notebook_id}/reindex/drop",
    "POST /api/v1/notebooks/{notebook_id}/reindex/rollback",
    "POST /api/v1/notebooks/{notebook_id}/notes",
    "POST /api/v1/notebooks/{notebook_id}/sources",
    "POST /api/v1/notebooks/{notebook_id}/sources/text",
    "POST /api/v1/notebooks/{notebook_id}/sources/url",
    "POST /api/v1/sources/{source_id}/refresh",
    "POST /api/v1/sources/{source_id}/reparse",
    "PUT /api/v1/notebooks/{notebook_id}/shares/{owner}",
    "PUT /api/v1/sources/{source_id}/content",
    "PUT /api/v1/notebooks/{notebook_id}/sources/{name}",
}

ADMIN = {
    "DELETE /api/v1/keys/{key_id}",
    "GET /api/v1/config",
    "GET /metrics",
    "GET /api/v1/keys",
    "POST /api/v1/config/reload",
    "POST /api/v1/keys",
}
"""For the whole server: an administrator's key reaches every owner's keys, so these know no owners."""

TABLE: dict[str, str | None] = {
    **dict.fromkeys(OPEN),
    **dict.fromkeys(READ, "read"),
    **dict.fromkeys(WRITE, "write"),
    **dict.fromkeys(ADMIN, "admin"),
}

PLUGINS: dict[str, str | None] = {
    "GET /static/{name:path}": None,
    "HEAD /": None,
    "HEAD /static/{name:path}": None,
    "POST /mcp": "read",  # a tool that writes asks for `write` itself
    "POST /mcp/": "read",
}
"""The same of what built-in plugins add beside `GET /`, which is ours for programs and the page's for browsers."""
