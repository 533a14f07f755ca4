"""What every caller of another server needs: when to try again, and how to say what went wrong.

`Failures` reads the error bodies that model servers really send: OpenAI's `{"error": {...}}`, a bare string there,
vLLM's `{"object": "error", ...}`, FastAPI's `{"detail": ...}`. What it says never holds the component's own secrets,
even if the server repeats them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pydantic import Field, SecretStr, field_validator

from sourcebook.errors import UpstreamError
from sourcebook.http import Http, Timeouts
from sourcebook.interfaces import ComponentSettings

E = TypeVar("E", bound=UpstreamError)

MAX_MESSAGE = 500
"""Characters of a server's own words that an error repeats."""

_TIMEOUTS = {
    "upstream_connect_timeout",
    "upstream_first_byte_timeout",
    "upstream_gap_timeout",
    "upstream_total_timeout",
}
_UNREACHABLE = {"upstream_unreachable", "upstream_connect_timeout"}
# Words in an error's `code` or `type` -> the HTTP status that says the same.
_WORDS = (
    ("rate", 429), ("quota", 429), ("overloaded", 503), ("unavailable", 503), ("timeout", 504), ("authent", 401),
    ("api_key", 401), ("unauthorized", 401), ("permission", 403), ("forbidden", 403), ("not_found", 404),
    ("context", 400), ("invalid", 400), ("bad_request", 400), ("badrequest", 400), ("validation", 422),
)  # fmt: skip


class ServerSettings(ComponentSettings):
    """Where a model server is and who we are to it. `api_key` is sent as a bearer token; every header is a secret."""

    base_url: str
    model: str
    api_key: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    timeouts: Timeouts = Timeouts()

    @field_validator("base_url")
    @classmethod
    def _checked(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("base_url must begin with http:// or https://")
        return url.rstrip("/")

    def request_headers(self) -> dict[str, str]:
        """With the secrets open."""
        key = {"authorization": f"Bearer {self.api_key.get_secret_value()}"} if self.api_key else {}
        return key | {name.lower(): value.get_secret_value() for name, value in self.headers.items()}

    def secrets(self) -> list[str]:
        """What must never be shown, even if the server repeats it."""
        return [secret.get_secret_value() for secret in (self.api_key, *self.headers.values()) if secret]


@dataclass(frozen=True)
class Retries:
    """At most `tries` calls; waits in seconds, with full jitter, never over `cap`.

    Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015. Only for what has not answered yet: an
    answer whose first token was passed on is never asked for again.
    """

    tries: int = 3
    cap: float = 30.0
    base: float = 0.5

    def wait(self, attempt: int, asked: float | None) -> float:
        """Before try `attempt + 1` (attempts count from 1); `asked` is the server's Retry-After."""
        jitter = random.uniform(0, self.base * 2**attempt)
        return min(jitter + (asked or 0.0), self.cap)

    def again(self, error: UpstreamError, attempt: int) -> bool:
        """Whether a call that failed like this is worth another: it never reached a server that works on it."""
        if attempt >= self.tries:
            return False
        return error.details.get("cause", error.problem_code) in _UNREACHABLE or error.details.get("status") in (
            429,
            503,
        )


class Breaker:
    """Lets calls fail at once while a server is down: after `failures` in `window` seconds, for `rest` seconds; then
    one call is let through, and decides for the others.

    Michael Nygard, "Release It!", 2nd edition, 2018, chapter 5: Circuit Breaker.
    """

    def __init__(self, failures: int = 5, window: float = 30.0, rest: float = 15.0) -> None:
        self._most = failures
        self._window = window
        self._rest = rest
        self._failed: list[float] = []
        self._open_until = 0.0
        self._probing = False

    def wait(self) -> float:
        """Seconds for which no call should be made; 0 where the caller may go on, and then says what came of it."""
        if not self._open_until:
            return 0.0
        left = self._open_until - time.monotonic()
        if left > 0 or self._probing:
            return max(left, 1.0)
        self._probing = True
        return 0.0

    def succeeded(self) -> None:
        """The server answers."""
        self._failed.clear()
        self._open_until, self._probing = 0.0, False

    def failed(self) -> None:
        """The server did not answer, or said that it cannot."""
        now = time.monotonic()
        self._failed = [at for at in self._failed if at > now - self._window] + [now]
        if self._probing or len(self._failed) >= self._most:
            self._open_until = now + self._rest
        self._probing = False

    def undecided(self) -> None:
        """The caller left before anything was known."""
        self._probing = False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds from now (RFC 9110, section 10.2.3: seconds or a date); None where there is none."""
    from email.utils import parsedate_to_datetime

    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def is_error(data: Any) -> bool:
    """Whether a JSON value is one of the shapes in which servers report errors, with whatever status."""
    if not isinstance(data, dict):
        return False
    if data.get("error") or data.get("object") == "error" or data.get("type") == "error":
        return True
    return not data.get("choices") and bool(data.get("detail") or ("code" in data and data.get("message")))


class Failures(Generic[E]):
    """Makes one component's errors. Codes are `<prefix>_unreachable`, `_timeout`, `_refused`, `_rate_limited`,
    `_bad_request`, `_server_error`, `_protocol` and `_truncated`; `details["status"]` is the HTTP status, if any.
    """

    def __init__(self, kind: type[E], prefix: str, instance: str, secrets: Iterable[str]) -> None:
        self.kind = kind
        self._prefix = prefix
        self._instance = instance
        # Longest first: a secret that contains another must not leave its rest behind.
        self._secrets = sorted((s for s in secrets if s), key=len, reverse=True)

    def make(self, word: str, detail: str, *, remedy: str = "", **more: Any) -> E:
        """One error with the code `<prefix>_<word>`."""
        more.setdefault("transient", word in ("unreachable", "timeout", "rate_limited", "server_error", "truncated"))
        return self.kind(self.scrubbed(detail), code=f"{self._prefix}_{word}", remedy=remedy, **more)

    def scrubbed(self, text: str) -> str:
        """Without our secrets, on one line, at most `MAX_MESSAGE` characters."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())[:MAX_MESSAGE]

    def upstream(self, error: UpstreamError) -> E:
        """An error of the HTTP client, as this component's."""
        code = error.problem_code
        more = {"cause": code}
        if code in _TIMEOUTS:
            remedy = f"Look at the server's load, or raise `timeouts` of {self._instance}."
            return self.make("timeout", error.detail, remedy=remedy, **more)
        if code in ("upstream_unreachable", "upstream_blocked"):
            return self.make("unreachable", error.detail, remedy=f"Check `base_url` of {self._instance}.", **more)
        if code == "upstream_cut":
            return self.make("truncated", error.detail, **more)
        if code == "upstream_bad_request":
            return self.make("bad_request", error.detail, remedy=f"Check `base_url` of {self._instance}.", **more)
        return self.make("protocol", error.detail, **more)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> E:
        """An HTTP answer that is not a success."""
        try:
            said = message_of(orjson.loads(body))
        except orjson.JSONDecodeError:
            plain = "html" not in headers.get("content-type", "")
            said = body[:MAX_MESSAGE].decode("utf-8", "replace") if plain else ""
        return self._with_status(status, said, retry_after(headers))

    def reported(self, data: Any) -> E:
        """An error object inside an answer whose status was 200."""
        return self._with_status(_status_of(data), message_of(data), None)

    def _with_status(self, status: int, said: str, wait: float | None) -> E:
        detail = f"The server of {self._instance} answered {status}" + (f": {said}" if said.strip() else ".")
        word, remedy = "bad_request", f"Check the settings of {self._instance}."
        if status in (401, 403):
            word, remedy = "refused", f"Set a valid `api_key` for {self._instance}."
        elif status == 404:
            remedy = f"Check `base_url` and `model` of {self._instance}."
        elif status in (408, 504):
            word, remedy = "timeout", "Try again later."
        elif status == 429:
            word, remedy = "rate_limited", "Try again later, or raise the limit at the provider."
        elif status >= 500:
            word, remedy = "server_error", "Try again later; the server's own log says more."
        elif status < 400:
            word, remedy = "protocol", f"Check `base_url` of {self._instance}: redirects are not followed."
        return self.make(word, detail, remedy=remedy, retry_after=wait, status=status)


async def call(
    http: Http, url: str, body: Any, settings: ServerSettings, failures: Failures[E], retries: Retries | None = None
) -> Any:
    """POST `body` as JSON and return the JSON that comes back, trying again as `retries` says. Raises an `E`."""
    retries = retries or Retries()
    end = asyncio.get_running_loop().time() + settings.timeouts.total
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _called(http, url, body, settings, failures)
        except failures.kind as error:
            wait = retries.wait(attempt, error.retry_after)
            if not retries.again(error, attempt) or asyncio.get_running_loop().time() + wait > end:
                raise
        await asyncio.sleep(wait)


async def _called(http: Http, url: str, body: Any, settings: ServerSettings, failures: Failures[E]) -> Any:
    try:
        answer = await http.request(
            "POST", url, json=body, headers=settings.request_headers(), timeouts=settings.timeouts
        )
        if not 200 <= answer.status < 300:
            raise failures.answer(answer.status, answer.headers, answer.body)
        data = answer.json()
    except failures.kind:
        raise
    except UpstreamError as error:
        raise failures.upstream(error) from error
    if is_error(data):
        raise failures.reported(data)
    return data


def message_of(data: Any) -> str:
    """The human sentence in an error body of any known shape; empty where there is none."""
    if isinstance(data, str):
        return data
    if isinstance(data, list):
        return "; ".join(filter(None, map(message_of, data[:5])))
    if not isinstance(data, dict):
        return ""
    for key in ("error", "message", "msg", "detail", "error_message", "errors"):
        if found := message_of(data.get(key)):
            return found
    return str(data.get("code") or data.get("type") or "")


def _status_of(data: Any) -> int:
    """An error object's `code`, as a number or a word, as an HTTP status. 500 where it says nothing."""
    inner = data.get("error") if isinstance(data, dict) else None
    for source in (inner, data):
        if not isinstance(source, dict):
            continue
        for key in ("code", "status", "status_code", "type"):
            status = _as_status(source.get(key))
            if status is not None:
                return status
    return 500


def _as_status(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 400 <= value <= 599 else None
    if isinstance(value, str):
        lower = value.lower()
        return next((status for word, status in _WORDS if word in lower), None)
    return None
