"""What every fetcher must do. Subclass `FetcherContract` in a test module, and pytest runs it on yours."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import Any

import pytest

from sourcebook.errors import FetchError
from sourcebook.interfaces import Fetched, Fetcher
from sourcebook.testing.components import opened
from sourcebook.testing.deadlines import Timely


class FetcherContract(Timely):
    """The suite. A subclass gives `fetcher`: a context with a fetcher, an address that works and the bytes behind it.

    `missing` is an address that leads nowhere; `blocked` are addresses that must not be connected to.
    """

    blocked: tuple[str, ...] = ()

    def fetcher(self) -> AbstractContextManager[tuple[Fetcher[Any], str, bytes]]:
        """A fetcher that is not open yet, an address, and what stands there."""
        raise NotImplementedError

    def missing(self, url: str) -> str:
        """An address that leads nowhere, made from one that works."""
        return url + "-that-is-not-there"

    def fetched(self, fetcher: Fetcher[Any], url: str) -> tuple[Fetched, bytes]:
        """What one fetch gave and wrote."""

        async def main() -> Fetched:
            async with opened(fetcher):
                return await fetcher.fetch(url, file)

        file = io.BytesIO()
        return self._run(f"The fetcher {fetcher.name!r}", main()), file.getvalue()

    def failure(self, fetcher: Fetcher[Any], url: str) -> FetchError:
        """The error of a fetch that must fail."""
        with pytest.raises(FetchError) as caught:
            self.fetched(fetcher, url)
        return caught.value

    def test_schemes_are_lower_case_without_the_colon(self) -> None:
        with self.fetcher() as (fetcher, url, _):
            assert fetcher.schemes
            assert all(scheme == scheme.lower().rstrip(":/") for scheme in fetcher.schemes)
            assert url.split(":", 1)[0] in fetcher.schemes

    def test_the_bytes_are_written_and_described(self) -> None:
        with self.fetcher() as (fetcher, url, expected):
            found, written = self.fetched(fetcher, url)
        assert written == expected
        assert found.url
        assert "/" in found.media_type
        assert ";" not in found.media_type
        assert found.name
        assert "/" not in found.name

    def test_what_is_not_there_is_a_fetch_error(self) -> None:
        with self.fetcher() as (fetcher, url, _):
            error = self.failure(fetcher, self.missing(url))
        assert error.detail
        assert error.problem_code.startswith("fetch_")

    def test_forbidden_addresses_are_blocked(self) -> None:
        if not self.blocked:
            pytest.skip("this fetcher forbids no address")
        for url in self.blocked:
            with self.fetcher() as (fetcher, _, _):
                assert self.failure(fetcher, url).problem_code == "fetch_blocked", url
