"""The application: the gate, the routes, and the Sourcebook behind them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute

from sourcebook import __version__
from sourcebook.app import Sourcebook
from sourcebook.configuration import Configuration
from sourcebook.hosts import RouteHost
from sourcebook_api import routes
from sourcebook_api.access import caller
from sourcebook_api.audit import audit_of
from sourcebook_api.authentication import Authenticator
from sourcebook_api.gate import Gate
from sourcebook_api.hosts import Hosts
from sourcebook_api.idempotent import Idempotent
from sourcebook_api.limits import Limiter
from sourcebook_api.openapi import DESCRIPTION, TAGS, Described, operation_id, problems
from sourcebook_api.permissions import Permissions
from sourcebook_api.problems import add_handlers
from sourcebook_api.proxies import Proxies
from sourcebook_api.reference import Reference
from sourcebook_api.routes import health, openai, opened


def create_app(book: Sourcebook | Configuration) -> FastAPI:
    """The ASGI application. Its lifespan opens and closes the Sourcebook, unless that is open already."""
    if isinstance(book, Configuration):
        book = Sourcebook(book)
    app = Described(
        title="Sourcebook",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=_lifespan,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    hosts, proxies = Hosts(book.settings.server), Proxies(book.settings.server)
    app.state.book = book
    app.state.stopping = asyncio.Event()
    app.state.reloaded = lambda: None  # tells the other processes, where there are any
    app.state.authenticator = Authenticator(book, hosts)
    app.add_middleware(Idempotent, book=book)
    app.state.audit = audit_of(book)
    app.state.permissions = Permissions()
    limiter = Limiter(book.settings.limits)
    book.reloading.listeners.append(lambda changed: hosts.change(changed.settings.server))
    book.reloading.listeners.append(lambda changed: proxies.change(changed.settings.server))
    book.reloading.listeners.append(lambda changed: limiter.change(changed.settings.limits))
    app.add_middleware(
        Gate,
        book=book,
        hosts=hosts,
        proxies=proxies,
        authenticator=app.state.authenticator,
        limiter=limiter,
        audit=app.state.audit,
        permissions=app.state.permissions,
        stopping=app.state.stopping,
    )
    add_handlers(app)
    app.add_route("/docs", Reference(app).page, include_in_schema=False)
    app.router.routes.extend(routes.api())
    app.include_router(health.router)
    app.include_router(openai.router)
    app.include_router(opened.router)
    app.include_router(health.front)
    app.state.front = app.router.routes[-1]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    book: Sourcebook = app.state.book
    if book.is_open:
        _mount_plugins(app, book)
        yield
        return
    async with book:
        _mount_plugins(app, book)
        yield


def _mount_plugins(app: FastAPI, book: Sourcebook) -> None:
    """Every plugin's routes under `/api/v1/x/<plugin>/`, or where `[plugins.mount]` says, each under a tag of its own.

    The gate stands before all of them, wherever they are; a path that core has stays core's, but for `/`.
    """
    hosts: list[RouteHost] = []

    def host_for(plugin: str) -> RouteHost:
        made = APIRouter(tags=[f"plugin {plugin}"], generate_unique_id_function=partial(_operation_id_of, plugin))
        hosts.append(RouteHost(made, book, plugin, Depends(caller), problems))
        return hosts[-1]

    book.plugins.routes(host_for)
    for host in hosts:
        if book.plugins.infos[host.plugin].state != "failed" and host.router.routes:
            try:
                _mount(app, book, host)
            except Exception as error:  # such as a path that is none: one plugin's mistake must not cost the server
                book.plugins.fail(host.plugin, error)
    # `/` is the one address that a plugin may take for those whom it has something for, such as a page for browsers.
    app.router.routes.remove(app.state.front)
    app.router.routes.append(app.state.front)
    app.openapi_schema = None  # it may have been asked for before


def _mount(app: FastAPI, book: Sourcebook, host: RouteHost) -> None:
    info = book.plugins.infos[host.plugin]
    prefix = book.settings.plugins.mount.get(host.plugin, f"/api/v1/x/{host.plugin}").rstrip("/")
    for needed in host.needed:
        app.state.permissions.add(needed.method, prefix + needed.path, needed.permission)
    app.include_router(host.router, prefix=prefix)
    version = f" {info.version}" if info.version else ""
    tag = {"name": f"plugin {host.plugin}", "description": f"Added by the plugin {info.distribution}{version}."}
    app.openapi_tags = [*(app.openapi_tags or []), tag]


def _operation_id_of(plugin: str, route: APIRoute) -> str:
    """Two plugins may name their functions alike."""
    return f"{re.sub(r'[^a-z0-9]+', '_', plugin.lower())}_{operation_id(route)}"
