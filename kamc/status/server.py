"""``kamc status``: serves the page on a loopback port. Reads only, and answers only who asks for a loopback name (so no other site's page can)."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

from aiohttp import web

from kamc.errors import ConfigError
from kamc.runtime.proc.control import ask
from kamc.status.facts import facts, metrics
from kamc.status.render import page

HOST: Final = "127.0.0.1"
_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HEADERS: Final = {
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:",
}  # fmt: skip


@web.middleware
async def _guard(request: web.Request, handler: Any) -> web.StreamResponse:
    name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    if name not in _NAMES:
        raise web.HTTPForbidden(text="this page is for this machine")
    if request.method not in ("GET", "HEAD"):
        raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])
    response: web.StreamResponse = await handler(request)
    response.headers.update(_HEADERS)
    return response


class StatusServer:
    """Of the server whose runtime folder it is."""

    def __init__(self, folder: str, graph: str = "", title: str = "kamc") -> None:
        self.folder, self.graph, self.title = folder, graph, title

    def _collect(self) -> dict[str, Any]:
        status = ask(self.folder, {"do": "status"})
        return facts(lambda command, params: ask(self.folder, {"do": "rpc", "method": command, "params": params}), status)

    async def _facts(self) -> dict[str, Any]:
        try:
            return await asyncio.to_thread(self._collect)
        except ConfigError as err:
            raise web.HTTPServiceUnavailable(text=str(err)) from None

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=page(self.title, self.graph), content_type="text/html")

    async def _data(self, request: web.Request) -> web.Response:
        return web.json_response(await self._facts())

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=metrics(await self._facts()), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_guard])
        app.add_routes([web.get("/", self._page), web.get("/data", self._data), web.get("/metrics", self._metrics)])
        return app

    def run(self, port: int, parent: int = 0) -> None:
        """Serve until told to end, or until the process ``parent`` has. Raises ConfigError when the port is taken."""
        async def serve() -> None:
            runner = web.AppRunner(self.app(), access_log=None)
            await runner.setup()
            try:
                await web.TCPSite(runner, HOST, port).start()
            except OSError as err:
                raise ConfigError(f"the status page cannot listen on {HOST}:{port}: {err.strerror or err}") from None
            try:
                while not parent or os.getppid() == parent:
                    await asyncio.sleep(1 if parent else 3600)
            finally:
                await runner.cleanup()

        asyncio.run(serve())

