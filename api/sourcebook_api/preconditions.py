"""Conditional requests (RFC 9110, section 13): a client says which version it has seen, and overwrites no other.

What is edited has a `version` that goes up with every edit, and `"v<version>"` as its strong ETag.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from sourcebook.errors import Conflict, InvalidInput
from sourcebook_api.access import book_of

_TAG = re.compile(r'(?:W/)?"[^"]*"')


class EditedMeanwhile(Conflict):
    """Somebody was faster: nothing was changed."""

    code = "edited_meanwhile"
    title = "Somebody edited this meanwhile"


class PreconditionRequired(InvalidInput):
    """This server takes edits only from clients that say which version they have seen."""

    code = "precondition_required"
    title = "This edit needs an If-Match header"


def etag(version: int) -> str:
    """The ETag of a version."""
    return f'"v{version}"'


class Precondition:
    """The `If-Match` of an edit: held `against` what was read, and then by a conditional UPDATE."""

    def __init__(self, header: str | None) -> None:
        self._tags = None if header is None or header.strip() == "*" else _tags(header)

    def against(self, version: int) -> int | None:
        """The version that the UPDATE has to find: this one, or None where any will do. Raises `EditedMeanwhile`."""
        self.check(etag(version))
        return None if self._tags is None else version

    def check(self, tag: str) -> None:
        """Raises `EditedMeanwhile` where this ETag is not among those that are asked for."""
        if self._tags is not None and tag not in self._tags:
            raise edited_meanwhile()


def _precondition(
    request: Request,
    if_match: Annotated[str | None, Header(max_length=1000, description="The ETag that this edit is based on.")] = None,
) -> Precondition:
    if if_match is None and book_of(request).settings.server.require_if_match:
        raise PreconditionRequired(
            "This edit does not say which version it is based on.", remedy="Send the ETag that you read in If-Match."
        )
    return Precondition(if_match)


IfMatch = Annotated[Precondition, Depends(_precondition)]
"""Of a route that edits: 412 on another version, 428 without one where `[server] require_if_match` says so."""

IfNoneMatch = Annotated[str | None, Header(max_length=1000, description="ETags that the client has.")]


def not_modified(given: str | None, tag: str) -> bool:
    """Whether an `If-None-Match` holds this ETag; compared weakly, as it is for reading."""
    if given is None:
        return False
    return given.strip() == "*" or tag.removeprefix("W/") in {t.removeprefix("W/") for t in _tags(given)}


def versioned(shown: Any, version: int, response: Response, if_none_match: str | None = None) -> Any:
    """What is shown, with its ETag; or 304 and nothing, where the client has it already."""
    tag = etag(version)
    if not_modified(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return shown


def _tags(header: str) -> list[str]:
    return _TAG.findall(header)


def edited_meanwhile(detail: str = "Somebody edited this meanwhile.") -> EditedMeanwhile:
    """The error for an edit that is based on another version."""
    return EditedMeanwhile(detail, remedy="Read it again, then retry.")
