"""The pages for people: a template each, in `pages/`, with a policy that lets it load nothing but its own style."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.responses import HTMLResponse


def html_page(name: str, status: int, headers: Mapping[str, str], **values: Any) -> HTMLResponse:
    """A page with these values in it; all but `Markup` is escaped."""
    template, policy = _template(name)
    return HTMLResponse(template.render(**values), status, {**headers, "Content-Security-Policy": policy})


@cache
def _template(name: str) -> tuple[Any, str]:
    """A page, and the policy that lets it show its own style and pictures, and nothing else."""
    from jinja2 import Environment, StrictUndefined

    text = (files("sourcebook_api") / "pages" / name).read_text(encoding="utf-8")
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(text), policy
