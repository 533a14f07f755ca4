"""The four ways in: files of a form, one file as the raw body, pasted text, and an address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import Body, Header, Query, Request, Response
from pydantic import BaseModel, Json, ValidationError
from starlette.datastructures import FormData, UploadFile

from sourcebook.accepting import declared_type, typed
from sourcebook.errors import InvalidInput, SourcebookError
from sourcebook.notebooks import Notebook
from sourcebook.sources import Source
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.preconditions import edited_meanwhile
from sourcebook_api.problems import problem_of
from sourcebook_api.schemas.common import Listing, Metadata, Problem
from sourcebook_api.schemas.library import Accepted, NewText, NewUrl, SourceShown, Tags

router = api_router("sources", "/notebooks/{notebook_id}/sources")

_CHUNK = 256 * 1024
_MAX_FILES = 100
_LONGEST_PASSWORD = 1000
_FILES = {
    "type": "object",
    "properties": {
        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 100}},
        "metadata": {"type": "string", "description": "A JSON object."},
        "password": {"type": "string", "format": "password", "maxLength": 1000},
    },
}
_FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FILES}}}}
RAW = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_THERE: dict[int | str, dict[str, Any]] = {
    200: {"model": SourceShown, "description": "The same bytes are here already, and have not failed."}
}


OnlyNew = Annotated[str | None, Header(pattern=r"^\*$", description="`*`: only where no source has this name.")]


class Described(BaseModel):
    """What a form says of its files."""

    tags: Tags
    metadata: Json[Metadata]


@router.post("", status_code=202, responses=problems(404, 413, 415, 507), openapi_extra=_FORM)
async def upload_sources(asking: Asking, notebook_id: str, request: Request) -> Listing[Accepted]:
    """Upload files as `multipart/form-data`, under any field name. Each file is accepted or refused on its own.

    Where none is accepted, the answer is the first one's problem. The same bytes in the same notebook are the source
    that is there; one that has failed takes the name, the type and the password that come with them now, and is read
    again under its id. Text fields hold for all files of the form: `tags`, one a field, `metadata`, a JSON object, and
    `password` for those that need one: it is kept in memory until they were read, and never stored.
    """
    notebook = await asking.notebook(notebook_id, "write")
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InvalidInput(
            "Files are uploaded as multipart/form-data.",
            code="not_multipart",
            remedy="Send a form, or PUT one file's bytes to .../sources/{name}.",
        )
    accepted, errors = [], []
    async with request.form(max_files=_MAX_FILES, max_fields=_MAX_FILES) as form:
        fields = _fields(form)
        for _, file in form.multi_items():
            if not isinstance(file, UploadFile):
                continue
            try:
                accepted.append(await _accept(asking, notebook, file, fields))
            except SourcebookError as error:
                errors.append(error)
                problem = Problem.model_validate(problem_of(error, request.state.request_id))
                accepted.append(Accepted(name=file.filename or "", problem=problem))
    if not accepted:
        raise InvalidInput("The form holds no file.")
    if len(errors) == len(accepted):
        raise errors[0]
    return Listing[Accepted](items=accepted)


@router.put("/{name}", status_code=202, responses={**problems(404, 412, 413, 415, 507), **_THERE}, openapi_extra=RAW)
async def put_source(
    asking: Asking,
    notebook_id: str,
    name: str,
    request: Request,
    response: Response,
    tags: Annotated[Tags | None, Query(description="Of a source that is made by this.")] = None,
    if_none_match: OnlyNew = None,
) -> SourceShown:
    """Upload one file of any size as the raw body: streamed to disk, and hashed on the way.

    A source of this name in the notebook gets the new bytes, and what it had serves until they are read; the same bytes
    change nothing (200), unless the source has failed: then they are read again (202). So a folder is kept in step by
    sending all of it again.
    """
    notebook = await asking.notebook(notebook_id, "write")
    there = await asking.book.sources.named(notebook.id, name)
    if there is not None and if_none_match is not None:
        raise edited_meanwhile("There is a source of this name.")
    media_type, chunks = await typed_body(asking, notebook, name, request)
    if there is None:
        accepted = await asking.book.sources.accept(notebook, name, chunks, media_type=media_type, tags=tags or ())
        return _answer(await asking.source(accepted[0]), accepted[1], response)
    source = await asking.source(there, "write")
    job_id = await asking.book.sources.replace(asking.principal, source.id, chunks, media_type=media_type)
    return _answer(await asking.source(source.id), job_id is not None, response)


@router.post("/text", status_code=202, responses={**problems(404, 413, 415, 507), **_THERE})
async def add_text(
    asking: Asking,
    notebook_id: str,
    body: Annotated[
        NewText,
        Body(openapi_examples={"note": {"value": {"name": "tides.md", "text": "# Tides\n\nHigh water at six."}}}),
    ],
    response: Response,
) -> SourceShown:
    """Make a source of pasted text. A name such as `notes.md` says how it is read; plain text is the default."""
    accepted = await asking.add_text(notebook_id, body.name, body.text, tags=body.tags, metadata=body.metadata)
    return _answer(*accepted, response)


@router.post("/url", status_code=202, responses={**problems(404, 413, 415, 502, 507), **_THERE})
async def add_url(
    asking: Asking,
    notebook_id: str,
    body: Annotated[NewUrl, Body(openapi_examples={"page": {"value": {"url": "https://example.org/tides"}}})],
    response: Response,
) -> SourceShown:
    """Fetch an address now, and make a source of what it gives. Addresses inside this network are refused."""
    accepted = await asking.add_url(notebook_id, body.url, tags=body.tags, metadata=body.metadata)
    return _answer(*accepted, response)


def _fields(form: FormData) -> dict[str, Any]:
    """The form's text fields. Raises `InvalidInput` for any that is none of ours."""
    texts = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    named = dict(texts)
    if (
        not named.keys() <= {"tags", "metadata", "password"}
        or not 0 < len(named.get("password", "x")) <= _LONGEST_PASSWORD
    ):
        raise InvalidInput(
            "The form has a text field where files are expected.",
            remedy="Send files, and at most `tags`, `metadata` and a `password` of 1 to 1000 characters.",
        )
    tags = [value for name, value in texts if name == "tags"]
    given = {"tags": tags, "metadata": named.get("metadata", "{}")}
    try:
        described = Described.model_validate(given)
    except ValidationError as error:
        where = error.errors()[0]
        raise InvalidInput(f"{where['loc'][0]}: {where['msg']}.") from error
    return {**described.model_dump(), "password": named.get("password")}


async def _accept(asking: Caller, notebook: Notebook, file: UploadFile, fields: Mapping[str, Any]) -> Accepted:
    name = file.filename or ""
    given = declared_type(name, file.content_type or "")
    media_type, chunks = await typed(asking.book.pipelines, notebook, name, given, _chunks(file))
    source_id, created = await asking.book.sources.accept(notebook, name, chunks, media_type=media_type, **fields)
    source = SourceShown.model_validate(await asking.source(source_id))
    return Accepted(name=name, created=created, source=source)


def _answer(source: Source, created: bool, response: Response) -> SourceShown:
    response.status_code = 202 if created else 200
    response.headers["Location"] = f"/api/v1/sources/{source.id}"
    return SourceShown.model_validate(source)


async def typed_body(
    asking: Caller, notebook: Notebook, name: str, request: Request
) -> tuple[str, AsyncIterator[bytes]]:
    """Type and bytes of a raw body. Raises `UnsupportedType` before they are stored."""
    given = declared_type(name, request.headers.get("content-type", ""))
    return await typed(asking.book.pipelines, notebook, name, given, request.stream())


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(_CHUNK):
        yield chunk
