"""The HTTP client that asks vendors."""

import pytest
from aiohttp import web

from attestation.fetching import Request, TransportFailed
from messaging.client.vendors import http_transport


async def test_the_transport_reads_no_more_than_one_byte_beyond_the_limit_and_follows_nothing() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(body=bytes(1000), headers={"X-Test": "1"})

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/page")

    app = web.Application()
    app.add_routes([web.get("/page", page), web.get("/elsewhere", elsewhere), web.post("/page", page)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with http_transport() as transport:
        whole = await transport.fetch(Request("GET", f"{url}/page", limit=1000))
        assert (whole.status, len(whole.body), whole.header("x-test")) == (200, 1000, "1")
        assert len((await transport.fetch(Request("POST", f"{url}/page", body=b"x", limit=10))).body) == 11
        assert (await transport.fetch(Request("GET", f"{url}/elsewhere"))).status == 302
        await runner.cleanup()
        for address in (f"{url}/page", "http://[", "gopher://x"):
            with pytest.raises(TransportFailed):
                await transport.fetch(Request("GET", address))
