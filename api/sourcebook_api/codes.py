"""Every problem code with its status and meaning: what a client may switch on. `docs/problems.md` is made from it.

`python -m sourcebook_api.codes > docs/problems.md`. A code that is used and not described here fails the suite.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

_MODELS = {
    "unreachable": "does not answer, or not yet",
    "timeout": "took too long",
    "refused": "refused our credential",
    "rate_limited": "asks for patience; Retry-After says for how much",
    "bad_request": "would not take our request",
    "server_error": "failed",
    "protocol": "answered what is no answer",
    "truncated": "broke off inside its answer",
}
_SERVERS = {"llm": "language model", "embedder": "embedding model", "reranker": "reranker"}

CODES: Mapping[int, Mapping[str, str]] = {
    400: {
        "bad_request": "The request cannot be read: its framing or its form is broken.",
        "tools_unsupported": "A chat completion with tools: none are called here.",
        "key_in_query": "A key stands in the address, where it ends up in logs. Revoke it.",
        "no_host": "There is no Host header.",
    },
    401: {"unauthenticated": "No key, or one that is unknown, revoked or expired: which of them is not told."},
    403: {
        "forbidden": "The key lacks the permission in `needed`, or a plugin denied it.",
        "origin_not_allowed": "A page of this origin may not change anything here.",
    },
    404: {
        "not_found": "There is no such thing, or it is not yours.",
        "model_not_found": "There is no model of that name; `GET /v1/models` lists them.",
        "no_pages": "The source has no pages to show.",
        "no_trace": "Nothing is stored of how the answer came about.",
        "page_changed": "The page that was cited is no longer the same.",
        "page_not_found": "The source has no such page.",
        "source_deleted": "The source behind this link was deleted.",
        "no_such_owner": "There is no owner of that name.",
        "not_shared": "The notebook is not shared with that owner.",
    },
    405: {"method_not_allowed": "Not this method; `Allow` names those that are."},
    409: {
        "conflict": "The state of the thing does not allow it.",
        "idempotency_in_progress": "The first request with this Idempotency-Key is still being served.",
        "idempotency_not_kept": "The request was done; its answer was too large to be kept.",
        "message_replaced": "The message gave way to an edit or to another answer.",
        "no_url": "The source was not fetched from an address, so it cannot be fetched again.",
        "index_changing": "The index is being moved or rebuilt just now.",
        "no_rollback": "Nothing is kept of an earlier index of this notebook.",
        "not_cancellable": "What is being deleted is deleted to the end.",
        "not_reindexing": "The notebook is not being reindexed.",
        "not_retryable": "The job runs, is done, or its source is deleted.",
        "not_read_yet": "The source has no text yet.",
        "restart_needed": "What was changed in the configuration is read when a process starts; `keys` names it.",
        "source_failed": "The source could not be read; `problem` says why.",
        "run_running": "The run has not ended yet; its trace is stored when it has.",
        "not_stale": "The notebook is up to date with its pipeline.",
        "reindexing": "The notebook is being reindexed already.",
    },
    410: {"link_expired": "The link has expired. Ask for the citation again: it has a new one."},
    412: {"edited_meanwhile": "Somebody edited it since you read it. Read it again."},
    413: {
        "export_too_large": "A note or conversation is too long for a Word document; Markdown has no such limit.",
        "too_large": "The body is over `limit` bytes.",
        "storage_quota_exceeded": "The owner's storage is used up: `used` of `limit`.",
    },
    415: {
        "unsupported_type": "No parser reads this type.",
        "not_multipart": "Files are uploaded as multipart/form-data.",
    },
    416: {"range_not_satisfiable": "Nothing of the range lies in the file; `Content-Range` tells its size."},
    421: {"host_not_allowed": "The server does not answer to the name in Host."},
    422: {
        "invalid_request": "Something in it does not fit; `errors` points at each place.",
        "no_notebook": "There is no notebook to ask; make one, and add sources.",
        "already_owner": "A notebook is not shared with its own owner.",
        "document_failed": "The source cannot be read.",
        "encrypted": "The file needs a password, or another one.",
        "config_refused": "The configuration as it stands now is wrong; `issues` names every place. Nothing changed.",
        "fetch_blocked": "The address is not one that is fetched: private, or not http.",
        "fetch_too_large": "The page is larger than is fetched.",
        "filter_invalid": "The filter names a field or a value that filters do not know.",
        "idempotency_key_invalid": "The Idempotency-Key is not 1 to 255 visible ASCII characters.",
        "idempotency_key_reused": "The Idempotency-Key was used for another request.",
        "idempotency_not_possible": "A key is made without an Idempotency-Key.",
        "limit_exceeded": "The file goes over a limit of size, pages, memory, time or output.",
        "corrupt": "The file is damaged, or not what its type says.",
        "nested_too_deeply": "The file's parts are nested too deeply.",
        "no_text_layer": "The file holds pictures of text, and no text.",
        "not_an_answer": "Only an answer can be kept as a note.",
        "out_of_memory": "Reading the file takes more memory than one document may have.",
        "text_too_long": "The file holds more text than one document may have.",
        "timeout": "Reading the file takes longer than one document may.",
        "too_large_unpacked": "The file unpacks to more than one document may have.",
        "too_many_members": "The archive has more members than one may have.",
        "too_many_pages": "The file has more pages than one document may have.",
        "gold_invalid": "A question of the test collection cannot be read; `detail` names its place.",
        "no_embedder": "The pipeline has no embedder, so it has no dense search.",
        "no_such_pipeline": "The notebook names a pipeline that is not configured.",
        "no_text": "The file holds no text.",
        "parser_died": "The parser died on the file.",
    },
    428: {"precondition_required": "This server takes an edit only with If-Match."},
    429: {
        "quota_exceeded": "A limit is reached for now.",
        "queue_full": "As many jobs of this owner wait as may.",
        "rate_limited": "Too many requests in a minute.",
        "too_many_at_once": "Too many requests of this key at a time.",
    },
    431: {"head_too_large": "The request line and the headers are over 64 KiB."},
    500: {
        "internal": "A mistake of the server's; its log names it by `request_id`.",
        "config_invalid": "A setting is wrong.",
        "dimensions_changed": "The embedder makes vectors of another size than those that are stored.",
        "extra_missing": "A component needs an optional package that is not installed.",
        "index_gone": "The index that the notebook lies in is no longer configured.",
        "no_model": "A component's model is not in the folder that its settings name.",
        "other_index": "The evaluation's folder was made with another index.",
        "pipeline_gone": "The notebook's pipeline is no longer configured.",
        "plugin_failed": "A plugin broke its contract.",
    },
    502: {
        **{f"{name}_failed": f"The {what} failed." for name, what in _SERVERS.items()},
        **{
            f"{name}_{word}": f"The {what}'s server {meaning}."
            for name, what in _SERVERS.items()
            for word, meaning in _MODELS.items()
        },
        "llm_unasked_tool": "The language model called a tool that it was not offered.",
        "fetch_failed": "The page could not be fetched.",
        "upstream_failed": "A server that this one depends on failed.",
        "upstream_blocked": "A server's address is not one that is connected to.",
        "upstream_cut": "A server closed the connection inside its answer.",
        "upstream_protocol_error": "A server answered what is no answer.",
        "upstream_unreachable": "A server does not answer.",
    },
    503: {
        "not_ready": "Some part is not ready; `/readyz` says which.",
        "reloaded": "The configuration was reloaded in between; ask again.",
        "stopping": "The process is stopping. Another answers, or the next one soon.",
        "overloaded": "The server has as much to do as it takes.",
        "store_failed": "A store failed.",
        "blob_missing": "The stored bytes of a source are gone or cut.",
        "blob_store_refused": "The bucket that keeps the files refuses the server's keys.",
        "blob_store_unreachable": "The server of the bucket that keeps the files does not answer.",
        "bucket_missing": "The bucket that keeps the files is not there.",
        "blob_damaged": "The stored bytes of a source are not those that were accepted. Upload the file again.",
        "database_failed": "The database did not take it.",
        "database_damaged": "A page of the database is damaged. Restore the newest backup.",
        "index_incomplete": "The index does not hold all passages of a source yet.",
        "index_not_emptied": "The index still holds what was to be deleted.",
        "index_unavailable": "The index does not answer.",
        "server_queue_full": "The server has as many sources to ingest as it takes; see `Retry-After`.",
        "schema_newer": "The database was written by a later version.",
    },
    507: {"storage_full": "The disk is full. Nothing of the upload was kept; what was there is safe."},
}
"""Status -> code -> what it means."""

ELSEWHERE: Mapping[str, str] = {
    "backup_newer": "The backup was written by a later version.",
    "blob_left": "A deletion found bytes that are still there; it is tried again.",
    "bundle_invalid": "The file is no whole backup or notebook of ours.",
    "cancelled": "The ingestion was cancelled.",
    "cannot_listen": "The server's address cannot be bound.",
    "failpoint": "A test made it fail.",
    "interrupted": "The process that made an answer ended before it; what was written is kept.",
    "keys_needed": "A public address needs a key before the server starts.",
    "lease_lost": "A worker lost its job to another; nobody else sees it.",
    "migration_differs": "A moved index is not the same as the old one; the old one goes on.",
    "not_empty": "A backup is restored into an empty installation only.",
    "not_supported": "A component cannot do what it was asked for.",
    "reindex_incomplete": "Some sources could not be built anew, so the notebook keeps its old index.",
    "reindex_overtaken": "Another reindex, or a rollback, came before this one.",
    "rows_left": "A deletion found rows that are still there; it is tried again.",
    "schema_missing": "The database has no tables yet: `sourcebook db upgrade`.",
    "worker_died": "Workers died over this job, again and again.",
}
"""Codes that are no answer of the API: they stand with a job or a source, or are told on the command line."""


def render() -> str:
    """`docs/problems.md`."""
    lines = [
        "# Problem codes",
        "",
        "Every error of the API is an RFC 9457 problem object with one of these codes. A code keeps its meaning, and",
        "new ones may come. The same objects stand with failed jobs and sources, where the status plays no part.",
        "",
        "| Status | Code | Meaning |",
        "|---|---|---|",
    ]
    lines += [f"| {status} | `{code}` | {what} |" for status, all_ in CODES.items() for code, what in all_.items()]
    lines += ["", "Not an answer of the API:", "", "| Code | Meaning |", "|---|---|"]
    lines += [f"| `{code}` | {what} |" for code, what in ELSEWHERE.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
