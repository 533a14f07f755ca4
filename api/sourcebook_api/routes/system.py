"""Plugins and configuration."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter

from sourcebook_api.access import Asking
from sourcebook_api.schemas.common import Listing
from sourcebook_api.schemas.system import ConfigurationShown, PluginShown

router = APIRouter(tags=["server"])

_SECRET = re.compile(r"(?:^|_)(?:api_?key|key|secret|password|passwd|token|credentials?|authorization)$", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_MASK = "********"


@router.get("/plugins")
async def list_plugins(asking: Asking) -> Listing[PluginShown]:
    """Every plugin that is installed: what it adds, or why it is off."""
    return Listing[PluginShown](items=[PluginShown.model_validate(i) for i in asking.book.plugins.infos.values()])


@router.get("/config")
async def get_config(asking: Asking) -> ConfigurationShown:
    """Every setting and where it came from. Secrets are masked, wherever they were written."""
    configuration = asking.book.configuration
    return ConfigurationShown(
        settings=_hidden(configuration.shown()),
        origins=dict(configuration.origins),
        files=[str(file) for file in configuration.files],
    )


def _hidden(value: Any, name: str = "") -> Any:
    """Also mask what is called a secret in a file that is none, and passwords in addresses."""
    if isinstance(value, dict):
        return {key: _hidden(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner, name) for inner in value]
    if value not in ("", None) and _SECRET.search(name):
        return _MASK
    return _USER_INFO.sub(_MASK, value) if isinstance(value, str) else value
