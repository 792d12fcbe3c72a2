"""Style sheets and scripts: files of this package, under addresses that change with their bytes, so that browsers may keep them for good.

All come from here; a page asks nobody else for anything. ``assets/vendor.json`` says where the files of others are from.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

FOLDER: Final = Path(__file__).with_name("assets")
PREFIX: Final = "/assets/"
_DIGITS = 16  # of the hash, in an address
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. ``path`` is where it is served."""

    path: str
    kind: str
    body: bytes = field(repr=False)
    compressed: bytes = field(repr=False)


@cache
def read_assets() -> Mapping[str, Asset]:
    """All files that browsers may have, by name."""
    files = sorted(path for path in FOLDER.rglob("*") if path.suffix in _TYPES and path.is_file())
    return {path.name: _asset(path.name, path.read_bytes(), _TYPES[path.suffix]) for path in files}


def _asset(name: str, body: bytes, kind: str) -> Asset:
    digest = sha256(body).hexdigest()[:_DIGITS]
    return Asset(f"{PREFIX}{digest}/{name}", kind, body, gzip.compress(body, mtime=0))


def asset_routes(assets: Mapping[str, Asset]) -> list[web.RouteDef]:
    """Where they are fetched, without a sign-in."""
    by_path = {asset.path: asset for asset in assets.values()}

    async def get_asset(request: web.Request) -> web.Response:
        asset = by_path.get(request.path)
        if asset is None:
            raise web.HTTPNotFound
        headers = {"Cache-Control": _FOREVER, "Vary": "Accept-Encoding"}
        body = asset.body
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"], body = "gzip", asset.compressed
        return web.Response(body=body, content_type=asset.kind, charset="utf-8", headers=headers)

    return [web.get(PREFIX + "{digest}/{name}", get_asset)]
