"""The blob store `s3`: the sources' bytes in a bucket that speaks S3's protocol. Extra `s3`.

store.py     the component: the calls of `BlobStore`
settings.py  where the bucket is, and who we are to it
bucket.py    one request to it: signed, timed, tried again; its errors as ours
uploads.py   one blob on its way: parts, the hash, and what is done when it breaks off
copies.py    files of this machine that hold a blob while somebody reads it

Signatures and credentials are botocore's, the library that AWS keeps for this: keys from the settings, and where there
are none, whatever a machine of AWS's has been given. The requests are our own client's, with our deadlines, so a call
that is cancelled is over at once. (obstore, a Rust library with all of this in it, aborts a fifth of the short-lived
processes that use it when they end: its threads outlive the interpreter. aiobotocore brings a second HTTP client.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from sourcebook_plugins.s3.store import S3 as S3

hookimpl = pluggy.HookimplMarker("sourcebook")


@hookimpl
def register_blob_stores() -> list[type[S3]]:
    """The blob store named `s3`."""
    from sourcebook_plugins.s3.store import S3

    return [S3]


def __getattr__(name: str) -> Any:
    if name == "S3":
        from sourcebook_plugins.s3.store import S3

        return S3
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
