"""The server of an explored space, for one user of this machine."""

from __future__ import annotations

import json
import secrets
import socket
import webbrowser
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ppl_vae.errors import InputError, reason
from ppl_vae.explore.page import Explorer, render

HOSTS = ["127.0.0.1", "localhost"]
"""The names of this machine. A request to any other name comes from a page that has given its own name this address."""
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
MOST_BYTES = 2**16
"""The longest request."""

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(explorer: Explorer, token: str) -> Starlette:
    """Return the application that answers the page's requests.

    Requests are answered one after the other, since a program runs once at a time.

    Args:
        explorer: the content of the page.
        token: what every request has to have, in the address of the page or in the header ``X-Token``.
    """
    page = render(explorer.content)

    def guarded(answer: Endpoint) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            given = request.headers.get("X-Token") or request.query_params.get("token") or ""
            if not secrets.compare_digest(given.encode(), token.encode()):
                text = "This page needs the token of its address: open the address that the command printed.\n"
                return PlainTextResponse(text, 403, HEADERS)
            try:
                return await answer(request)
            except InputError as error:
                return JSONResponse({"error": str(error)}, 400, HEADERS)
            except Exception as error:  # of the program, which any point may be given to
                text = f"the program fails at this point ({reason(error)})"
                return JSONResponse({"error": text}, 500, HEADERS)

        return endpoint

    @guarded
    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=HEADERS)

    @guarded
    async def decode(request: Request) -> Response:
        return JSONResponse(explorer.decode(await read_json(request)), headers=HEADERS)

    @guarded
    async def datum(request: Request) -> Response:
        return JSONResponse(explorer.datum(request.path_params["row"]), headers=HEADERS)

    routes = [
        Route("/", show),
        Route("/decode", decode, methods=["POST"]),
        Route("/datum/{row:int}", datum),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)])


async def read_json(request: Request) -> dict[str, Any]:
    """Return the content of a request.

    Raises:
        InputError: it is too long, or no JSON object.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise InputError(f"a request has more than {MOST_BYTES} bytes")
    try:
        content = json.loads(body)
    except ValueError as error:
        raise InputError("a request is no JSON") from error
    if not isinstance(content, dict):
        raise InputError("a request is no JSON object")
    return content


def serve(explorer: Explorer, port: int = 0, *, browser: bool = True) -> None:
    """Serve a page until Ctrl-C, on the loopback interface alone.

    Args:
        explorer: the content of the page.
        port: the port; 0 takes one that is free.
        browser: open the page in a browser if there is a graphical one.

    Raises:
        InputError: the port is in use.
    """
    token = secrets.token_urlsafe(24)
    app = make_app(explorer, token)
    try:
        listener = socket.create_server((HOSTS[0], port))
    except (OSError, OverflowError) as error:
        raise InputError(f"--port {port} cannot be opened ({error}): choose another one, or 0 for any") from error
    with listener:
        address = f"http://{HOSTS[0]}:{listener.getsockname()[1]}/?token={token}"
        print(f"the page is at {address}\nCtrl-C ends it", flush=True)
        if browser:
            open_browser(address)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


def open_browser(address: str) -> None:
    """Open an address in a graphical browser, if there is one; a browser of the terminal would take it over."""
    try:
        controller = webbrowser.get()
    except webbrowser.Error:
        return
    if type(controller) is not webbrowser.GenericBrowser:
        controller.open(address)
