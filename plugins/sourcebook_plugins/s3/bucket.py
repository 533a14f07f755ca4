"""One request to the bucket: signed, timed, tried again while the server fails; its errors as ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from sourcebook.errors import PluginError, StoreError, UpstreamError
from sourcebook.http import Http, HttpResponse
from sourcebook.upstream import Failures, Retries, retry_after
from sourcebook_plugins.s3.settings import S3Settings

_BUSY = {429, 500, 502, 503, 504}


class Signer:
    """Signs requests as S3 wants it (AWS Signature Version 4). It may look at files or ask a server: use a thread."""

    def __init__(self, settings: S3Settings) -> None:
        """Raises `PluginError` without the extra, or where there are no credentials anywhere."""
        try:
            from botocore.auth import S3SigV4Auth
            from botocore.awsrequest import AWSRequest
        except ImportError as error:
            raise PluginError(
                "The blob store 's3' needs the package botocore, which is not installed.",
                remedy="pip install 'sourcebook[s3]'",
                code="extra_missing",
            ) from error
        self._auth, self._request = S3SigV4Auth, AWSRequest
        self._region = settings.region
        self._credentials = _credentials(settings)

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """`headers` with the signature over all of the request, its body included."""
        request = self._request(method=method, url=url, headers=dict(headers), data=body)
        self._auth(self._credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
        return dict(request.headers.items())


def _credentials(settings: S3Settings) -> Any:
    from botocore.credentials import Credentials
    from botocore.session import get_session

    if settings.access_key_id and settings.secret_access_key:
        token = settings.session_token.get_secret_value() if settings.session_token else None
        keys = (settings.access_key_id.get_secret_value(), settings.secret_access_key.get_secret_value())
        return Credentials(*keys, token)
    found = get_session().get_credentials()
    if found is None:
        raise PluginError(
            "The blob store 's3' has no credentials.",
            remedy="Set its access_key_id and secret_access_key in secrets.toml, or give the machine a role.",
            code="config_invalid",
        )
    return found


class Bucket:
    """Requests to one bucket. Raises `StoreError`: `blob_store_unreachable`, `blob_store_refused`, `bucket_missing`."""

    def __init__(self, settings: S3Settings, http: Http, signer: Signer, log: logging.Logger) -> None:
        self._settings = settings
        self._http = http
        self._signer = signer
        self._log = log
        self._retries = Retries(tries=settings.tries)
        self._failures = Failures(UpstreamError, "blob_store", "", settings.secrets())

    async def ask(
        self,
        method: str,
        path: str = "",
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        expected: Iterable[int] = (200, 204, 206),
        tries: int = 0,
    ) -> HttpResponse:
        """The answer, whose status is one of `expected`. Everything that is asked may be asked twice."""
        url = f"{self._settings.address}/{quote(path)}"
        if query:
            url += f"?{urlencode(sorted(query.items()), quote_via=quote)}"
        attempt, most = 0, tries or self._settings.tries
        while True:
            attempt += 1
            wait: float | None = None
            try:
                answer = await self._sent(method, url, headers or {}, body)
                if answer.status in expected and not (method == "POST" and _failed_inside(answer)):
                    return answer
                if (answer.status not in _BUSY and answer.status != 200) or attempt >= most:
                    raise self._error(method, answer)
                wait = retry_after(answer.headers)
            except UpstreamError as error:
                if not error.transient or attempt >= most:
                    raise self._unreachable(error) from error
                self._log.info("the blob store did not answer, trying again: %s", error.problem_code)
            await asyncio.sleep(self._retries.wait(attempt, wait))

    async def exists(self) -> None:
        """Raises `StoreError` where the bucket cannot be listed: then nothing that is not found is missing."""
        await self.ask("GET", query={"list-type": "2", "max-keys": "1", "prefix": self._settings.prefix})

    async def _sent(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
        # In a thread: the whole body is hashed, and credentials may have to be fetched anew.
        signed = await asyncio.to_thread(self._signer.headers, method, url, headers, body)
        return await self._http.request(
            method, url, headers=signed, content=body or None, timeouts=self._settings.timeouts
        )

    def _unreachable(self, error: UpstreamError) -> StoreError:
        return StoreError(
            f"The blob store does not answer: {self._failures.scrubbed(error.detail)}",
            remedy="Check `endpoint` of the blob store, and that the server runs.",
            code="blob_store_unreachable",
            cause=error.problem_code,
        )

    def _error(self, method: str, answer: HttpResponse) -> StoreError:
        code, message = said(answer.body)
        if answer.status == 404 and code == "NoSuchBucket":
            return StoreError(
                f"There is no bucket {self._settings.bucket!r}.",
                remedy="Make it, or correct `bucket` of the blob store.",
                code="bucket_missing",
            )
        detail = self._failures.scrubbed(
            f"The blob store answered {answer.status} {code} to {method}. {message}".strip()
        )
        if answer.status in (401, 403):
            remedy = "Check the keys, the region, and that they may list, read, write and delete in the bucket."
            return StoreError(detail, remedy=remedy, code="blob_store_refused", status=answer.status, said=code)
        return StoreError(detail, status=answer.status, said=code)


def _failed_inside(answer: HttpResponse) -> bool:
    """S3 begins to answer the end of an upload before it has succeeded: an error then comes with status 200."""
    return answer.status == 200 and answer.body.lstrip()[:200].find(b"<Error>") >= 0


def said(body: bytes) -> tuple[str, str]:
    """Code and message of an error's body; empty where it is none."""
    root = xml(body)
    return (root.findtext("{*}Code") or "", root.findtext("{*}Message") or "") if root is not None else ("", "")


def xml(body: bytes) -> Any:
    """The root element; None for what is no XML."""
    from lxml import etree

    try:
        return etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    except etree.XMLSyntaxError:
        return None
