"""Where the bucket is, and who we are to it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from sourcebook.http import Timeouts
from sourcebook.interfaces import ComponentSettings

_MIB = 1024 * 1024


class S3Settings(ComponentSettings):
    """Keys are secrets. Without them botocore looks for credentials: environment, shared files, the machine's role."""

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="It must exist already.")
    prefix: str = Field("", description="Every object's name begins so: `sourcebook/`. Empty: none.")
    endpoint: str = Field("", description="Address of the server. Empty: AWS, in `region`.")
    region: str = Field("us-east-1", description="Part of every signature; other servers often ignore it.")
    path_style: bool = Field(True, description="The bucket in the path of an address; else in the name of its host.")
    access_key_id: SecretStr | None = Field(None, description="Empty: whatever botocore finds.")
    secret_access_key: SecretStr | None = Field(None, description="Of the access key.")
    session_token: SecretStr | None = Field(None, description="Of temporary credentials.")
    part_size: int = Field(
        8 * _MIB,
        ge=5 * _MIB,
        le=512 * _MIB,
        description="Bytes in one part of a larger blob; an upload holds two in memory. S3 takes 10000 parts.",
    )
    tries: int = Field(5, ge=1, le=20, description="Of each request, with growing pauses, while the server fails.")
    timeouts: Timeouts = Field(Timeouts(), description="Of each request, in seconds.")

    @field_validator("prefix")
    @classmethod
    def _folder(cls, prefix: str) -> str:
        parts = [part for part in prefix.split("/") if part]
        if any(
            not part.isascii() or not part.replace("-", "").replace("_", "").replace(".", "").isalnum()
            for part in parts
        ):
            raise ValueError("a prefix is made of letters, digits, '-', '_', '.' and '/'")
        return "".join(f"{part}/" for part in parts)

    @field_validator("endpoint")
    @classmethod
    def _address(cls, endpoint: str) -> str:
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise ValueError("endpoint must begin with http:// or https://")
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        return self

    @property
    def address(self) -> str:
        """Of the bucket, without a slash at the end."""
        server = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        if self.path_style:
            return f"{server}/{self.bucket}"
        scheme, _, host = server.partition("://")
        return f"{scheme}://{self.bucket}.{host}"

    def secrets(self) -> list[str]:
        """What no error may repeat."""
        given = (self.access_key_id, self.secret_access_key, self.session_token)
        return [secret.get_secret_value() for secret in given if secret]
