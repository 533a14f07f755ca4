"""The blob store `s3` against a real S3 server in another process, whole and going wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sourcebook.errors import BlobMissing, PluginError, StoreError
from sourcebook.http import Http
from sourcebook.interfaces import BlobStore, Context
from sourcebook.testing.blob_stores import BlobStoreContract, chunked, content, keys
from sourcebook.upstream import Retries
from sourcebook_plugins.s3 import bucket as bucket_module
from sourcebook_plugins.s3.settings import S3Settings
from sourcebook_plugins.s3.store import CHUNK, S3
from tests.s3 import Fault, Proxy, S3Server, running

MIB = 1024 * 1024
PART = 5 * MIB
QUICK: dict[str, Any] = {"timeouts": {"connect": 2, "first_byte": 5, "gap": 5, "total": 20}}


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tries, with shorter waits between them."""
    monkeypatch.setattr(bucket_module, "Retries", partial(Retries, base=0.02))


def context(folder: Path) -> Context:
    return Context(log=logging.getLogger("blobs"), folder=folder, http=Http())


def using(settings: S3Settings, folder: Path, use: Callable[[S3], Awaitable[None]]) -> None:
    async def main() -> None:
        opened, store = context(folder), S3(settings)
        try:
            await store.open(opened)
            await use(store)
        finally:
            await store.close()
            await opened.http.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))


class S3Contract(BlobStoreContract):
    more: dict[str, Any] = {}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _bucket(self, s3: S3Server) -> None:
        self._settings = s3.settings(s3.bucket(), **self.more)

    def store(self) -> BlobStore[Any]:
        return S3(self._settings)

    def context(self, folder: Path) -> Context:
        return context(folder)


class TestS3(S3Contract):
    pass


class TestS3BelowAPrefix(S3Contract):
    more = {"prefix": "team/sourcebook", "part_size": PART}  # noqa: RUF012


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART, 17 * MIB + 3])
def test_a_large_blob_goes_in_parts_and_comes_back_by_ranges(s3: S3Server, tmp_path: Path, size: int) -> None:
    bucket, data = s3.bucket(), os.urandom(size)

    async def use(store: S3) -> None:
        blob = await store.put("src_1", chunked(data, 700_001))
        assert blob.size == await store.size("src_1") == size
        assert await content(store, "src_1") == data
        assert await content(store, "src_1", 3 * MIB, 9 * MIB) == data[3 * MIB : 9 * MIB]
        assert max([len(chunk) async for chunk in await store.read("src_1")]) == CHUNK

    using(s3.settings(bucket, part_size=PART), tmp_path, use)
    assert s3.uploads(bucket) == 0


def test_an_upload_holds_no_more_than_two_parts_in_memory(s3: S3Server, tmp_path: Path) -> None:
    proxy = Proxy(s3, lambda *_: None)

    async def use(store: S3) -> None:
        ahead: list[int] = []

        async def watched() -> AsyncIterator[bytes]:
            for number in range(1, 41):
                yield bytes(MIB)
                ahead.append(number - 5 * sum("partNumber" in path for _, path in proxy.seen))

        await store.put("src_1", watched())
        assert max(ahead) <= 2 * 5

    try:
        using(s3.settings(s3.bucket(), proxy.address, part_size=PART), tmp_path, use)
    finally:
        proxy.close()


def test_a_file_that_looks_like_an_error_of_the_server_is_read_as_it_is(s3: S3Server, tmp_path: Path) -> None:
    data = b"<Error><Code>InternalError</Code></Error>"

    async def use(store: S3) -> None:
        await store.put("src_1", chunked(data))
        assert await content(store, "src_1") == data

    def ignoring_ranges(method: str, path: str) -> Fault | None:
        return Fault(200, data) if method == "GET" and "src_1" in path else None

    proxy = Proxy(s3, ignoring_ranges)
    try:
        using(s3.settings(s3.bucket(), proxy.address), tmp_path, use)
    finally:
        proxy.close()


def test_a_client_that_breaks_off_leaves_no_object_and_no_parts(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()

    async def breaking() -> AsyncIterator[bytes]:
        yield bytes(12 * MIB)
        raise ConnectionError("the client is gone")

    async def use(store: S3) -> None:
        with pytest.raises(ConnectionError):
            await store.put("src_1", breaking())

    using(s3.settings(bucket, part_size=PART), tmp_path, use)
    assert (s3.objects(bucket), s3.uploads(bucket)) == ([], 0)


@pytest.mark.parametrize("size", [1000, 12 * MIB])
@pytest.mark.parametrize("request_number", range(5))
def test_a_cancellation_at_any_request_leaves_a_whole_blob_or_nothing(
    s3: S3Server, tmp_path: Path, size: int, request_number: int
) -> None:
    bucket, data = s3.bucket(), os.urandom(size)
    cancel: list[Callable[[], object]] = []

    def choose(*_: object) -> Fault | None:
        if len(proxy.seen) == request_number + 1 and cancel:
            cancel.pop()()
        return None

    proxy = Proxy(s3, choose)

    async def use(store: S3) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(store.put("src_1", chunked(data, MIB)))
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            await task
        except asyncio.CancelledError:
            assert await keys(store) == []
        else:
            assert await content(store, "src_1") == data

    try:
        using(s3.settings(bucket, proxy.address, part_size=PART), tmp_path, use)
    finally:
        proxy.close()
    assert s3.uploads(bucket) == 0


def first(times: int, method: str, part: str, fault: Fault) -> Callable[[str, str], Fault | None]:
    """The fault, for the first so many requests of this kind."""
    left = [times]

    def choose(asked: str, path: str) -> Fault | None:
        if asked == method and part in path and left[0]:
            left[0] -= 1
            return fault
        return None

    return choose


SLOW = Fault(503, headers={"retry-after": "0"})
HALF_DONE = Fault(200, b"<?xml version='1.0'?>\n<Error><Code>InternalError</Code><Message>Try again.</Message></Error>")
FAULTS = [
    ("POST", "uploads", SLOW),
    ("PUT", "partNumber=2", SLOW),
    ("PUT", "partNumber=1", Fault(silent=True)),
    ("PUT", "partNumber=1", Fault(status=0, cut=True)),
    ("POST", "uploadId", SLOW),
    ("POST", "uploadId", HALF_DONE),
    ("POST", "uploadId", Fault(status=0, cut=True)),  # it got through, and its answer did not
    ("HEAD", "src_1", SLOW),
    ("GET", "src_1", SLOW),
    ("GET", "src_1", Fault(silent=True)),
    ("GET", "src_1", Fault(status=0, cut=True)),
    ("GET", "list-type", Fault(status=0, cut=True)),
]


@pytest.mark.parametrize(("method", "part", "fault"), FAULTS)
def test_a_server_that_fails_twice_is_asked_again(
    s3: S3Server, tmp_path: Path, method: str, part: str, fault: Fault
) -> None:
    bucket, data = s3.bucket(), os.urandom(11 * MIB)
    proxy = Proxy(s3, first(2, method, part, fault))

    async def use(store: S3) -> None:
        await store.put("src_1", chunked(data, MIB))
        assert await content(store, "src_1") == data
        assert await keys(store) == ["src_1"]

    try:
        using(s3.settings(bucket, proxy.address, part_size=PART), tmp_path, use)
    finally:
        proxy.close()
    assert s3.uploads(bucket) == 0


@pytest.mark.parametrize("fault", [SLOW, Fault(silent=True), Fault(500, b"oops"), Fault(status=0, cut=True)])
def test_a_server_that_goes_on_failing_is_said_and_nothing_is_kept(s3: S3Server, tmp_path: Path, fault: Fault) -> None:
    bucket = s3.bucket()
    proxy = Proxy(s3, first(1000, "PUT", "src_", fault))

    async def use(store: S3) -> None:
        for size in (1000, 11 * MIB):
            with pytest.raises(StoreError) as raised:
                await store.put("src_1", chunked(bytes(size), MIB))
            assert raised.value.transient
        assert await keys(store) == []

    try:
        using(s3.settings(bucket, proxy.address, part_size=PART, tries=2), tmp_path, use)
    finally:
        proxy.close()
    assert s3.uploads(bucket) == 0


@pytest.mark.slow
def test_a_server_that_is_killed_in_an_upload_fails_it_and_serves_again_when_it_is_back(tmp_path: Path) -> None:
    for server in running():
        bucket = server.bucket()

        async def killing(server: S3Server = server) -> AsyncIterator[bytes]:
            yield bytes(7 * MIB)
            server.kill()
            yield bytes(7 * MIB)

        async def use(store: S3, server: S3Server = server, bucket: str = bucket) -> None:
            with pytest.raises(StoreError) as raised:
                await store.put("src_1", killing())
            assert raised.value.problem_code == "blob_store_unreachable"
            assert raised.value.transient
            server.start()
            server.make(bucket)
            await store.put("src_2", chunked(b"back"))
            assert await keys(store) == ["src_2"]

        using(server.settings(bucket, part_size=PART, tries=2, **QUICK), tmp_path, use)


def test_a_blob_that_goes_while_it_is_read_is_missing(s3: S3Server, tmp_path: Path) -> None:
    async def use(store: S3) -> None:
        await store.put("src_1", chunked(bytes(6 * MIB), MIB))
        chunks = await store.read("src_1")
        await anext(chunks)
        await store.delete("src_1")
        with pytest.raises(BlobMissing):
            _ = [chunk async for chunk in chunks]

    using(s3.settings(s3.bucket()), tmp_path, use)


def test_a_bucket_that_is_not_there_is_no_missing_blob(s3: S3Server, tmp_path: Path) -> None:
    async def use(store: S3) -> None:
        for call in (store.size("src_1"), content(store, "src_1"), store.put("src_1", chunked(b"x")), keys(store)):
            with pytest.raises(StoreError) as raised:
                await call
            assert raised.value.problem_code == "bucket_missing"

    using(s3.settings("nobody-made-this"), tmp_path, use)


def test_what_others_keep_in_the_bucket_is_no_blob_of_ours(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()

    async def use(store: S3) -> None:
        await store.put("src_1", chunked(b"ours"))
        foreign = S3(s3.settings(bucket, prefix="a/b"))
        await foreign.open(context(tmp_path / "other"))
        await foreign.put("src_2", chunked(b"theirs"))
        await foreign.close()
        assert await keys(store) == ["src_1"]

    using(s3.settings(bucket, prefix="a"), tmp_path, use)
    assert sorted(s3.objects(bucket)) == ["a/b/src_2", "a/src_1"]


def test_more_keys_than_one_answer_lists_are_all_listed(tmp_path: Path) -> None:
    names = [f"src_{number}" for number in range(8)]

    async def use(store: S3) -> None:
        for name in names:
            await store.put(name, chunked(b"x"))
        assert await keys(store) == names

    for server in running({"MOTO_S3_DEFAULT_MAX_KEYS": "3"}):
        using(server.settings(server.bucket(), prefix="p"), tmp_path, use)


def test_a_copy_is_private_and_goes_with_its_context(s3: S3Server, tmp_path: Path) -> None:
    async def use(store: S3) -> None:
        await store.put("src_1", chunked(b"bytes"))
        async with store.local("src_1") as path:
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.read_bytes() == b"bytes"
        assert not path.exists()

    using(s3.settings(s3.bucket()), tmp_path, use)
    assert list(tmp_path.rglob("*")) == []


DIES = """
import asyncio, json, logging, os, signal, sys
from pathlib import Path
from sourcebook.http import Http
from sourcebook.interfaces import Context
from sourcebook_plugins.s3.settings import S3Settings
from sourcebook_plugins.s3.store import S3

async def main():
    store = S3(S3Settings.model_validate(json.loads(sys.argv[2])))
    await store.open(Context(log=logging.getLogger(), folder=Path(sys.argv[1]), http=Http()))
    async with store.local("src_1"):
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_copies_of_a_process_that_died_are_removed_and_those_of_a_living_one_are_not(
    s3: S3Server, tmp_path: Path
) -> None:
    bucket = s3.bucket()

    async def use(store: S3) -> None:
        await store.put("src_1", chunked(b"bytes"))
        async with store.local("src_1") as path:
            settings = (
                store.settings.model_dump_json().replace('"**********"', '"x"').replace('"session_token":"x"', "")
            )
            subprocess.run([sys.executable, "-c", DIES, str(tmp_path), settings], check=False)
            assert len(list(tmp_path.glob("copies-*/*"))) == 2
            other = S3(store.settings)
            await other.open(context(tmp_path))
            assert list(tmp_path.glob("copies-*/*")) == [path]
            await other.close()

    using(s3.settings(bucket), tmp_path, use)


@pytest.fixture
def strict() -> Iterator[tuple[S3Server, S3Settings]]:
    """A server that checks every signature, and the settings of somebody whom it knows."""
    import boto3

    for server in running({"INITIAL_NO_AUTH_ACTION_COUNT": "4"}):
        anybody = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
        iam = boto3.client("iam", endpoint_url=server.address, **anybody)
        iam.create_user(UserName="sourcebook")
        policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
        iam.put_user_policy(UserName="sourcebook", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="sourcebook")["AccessKey"]
        iam.close()
        bucket = server.bucket()
        own = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
        yield server, server.settings(bucket, prefix="a-b/c.d", part_size=PART, **own)


def test_a_server_that_checks_signatures_takes_ours_and_names_a_wrong_key(
    strict: tuple[S3Server, S3Settings], tmp_path: Path
) -> None:
    _, settings = strict
    data = os.urandom(11 * MIB)

    async def right(store: S3) -> None:
        await store.put("src_1", chunked(data, MIB))
        await store.put("src_2", chunked(b""))
        assert await content(store, "src_1", 5, 10 * MIB) == data[5 : 10 * MIB]
        assert await keys(store) == ["src_1", "src_2"]
        await store.delete("src_1")

    async def wrong(store: S3) -> None:
        for call in (store.put("src_3", chunked(b"x")), store.size("src_2"), keys(store), store.delete("src_2")):
            with pytest.raises(StoreError) as raised:
                await call
            assert raised.value.problem_code == "blob_store_refused"
            assert "not the secret" not in str(raised.value)

    using(settings, tmp_path, right)
    given = settings.model_dump() | {"access_key_id": settings.access_key_id, "secret_access_key": "not the secret"}
    using(S3Settings.model_validate(given), tmp_path, wrong)


def test_without_keys_the_environment_is_looked_at_and_without_any_the_start_says_so(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = S3Settings.model_validate({"bucket": s3.bucket(), "endpoint": s3.address})

    async def use(store: S3) -> None:
        await store.put("src_1", chunked(b"x"))

    with pytest.raises(PluginError) as raised:
        using(settings, tmp_path, use)
    assert "secrets.toml" in raised.value.remedy
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    using(settings, tmp_path, use)


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "s3.example.org"},
        {"prefix": "a b"},
        {"prefix": "../a?"},
        {"bucket": "No"},
        {"access_key_id": "alone"},
        {"part_size": 1},
        {"made_up": 1},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        S3Settings.model_validate({"bucket": "bucket", **wrong})


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({}, "https://s3.us-east-1.amazonaws.com/bucket"),
        ({"path_style": False, "region": "eu-west-1"}, "https://bucket.s3.eu-west-1.amazonaws.com"),
        ({"endpoint": "http://minio:9000/"}, "http://minio:9000/bucket"),
        ({"endpoint": "https://r2.example.org", "path_style": False}, "https://bucket.r2.example.org"),
    ],
)
def test_where_the_bucket_is(given: dict[str, Any], address: str) -> None:
    assert S3Settings.model_validate({"bucket": "bucket", **given}).address == address
