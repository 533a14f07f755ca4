"""`/docs`: every operation of this server on one page, made when somebody first asks for it.

Made here, and without a script: it works where there is no internet, and asks nothing of anybody else's server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response


class Reference:
    """The page of one application: made anew where the document is another, since plugins may have come."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._making = asyncio.Lock()
        self._document: Mapping[str, Any] | None = None
        self._page: Response | None = None

    async def page(self, request: Request) -> Response:
        """The whole page."""
        async with self._making:
            from sourcebook_api.reference_page import page_of  # a start does without it

            document = self._app.openapi()
            if self._page is None or document is not self._document:
                # In a thread: other answers go on meanwhile.
                self._page = await asyncio.to_thread(page_of, document)
                self._document = document
            return self._page
