"""For what watches over the server: `/healthz` says that it is alive, `/readyz` that it takes work."""

from workq.gateway import Gateway
from workq.http import web
from workq.http.application import Application


def add_routes(application: Application, gateway: Gateway) -> None:
    """Add them to `application`."""

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        trouble = gateway.trouble()
        return web.Response(text="ok\n") if trouble is None else web.Response(status=503, text=f"{trouble}\n")

    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
