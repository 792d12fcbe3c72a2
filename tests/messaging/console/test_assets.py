"""Style sheets and scripts: whose they are, that they are what was reviewed, and how they are served."""

import gzip
import json
import re
from hashlib import sha256

from messaging.console.assets import FOLDER, read_assets
from tests.consoles import StartedConsole

VENDOR = FOLDER / "vendor"
MOST_BYTES = 200 * 1000  # of the first page with all that it needs, as it travels


def test_what_comes_from_others_is_what_was_reviewed() -> None:
    listed = json.loads((VENDOR / "vendor.json").read_text())
    assert {each["file"] for each in listed} == {
        path.name for path in VENDOR.iterdir() if path.suffix in {".js", ".css"}
    }
    for each in listed:
        assert sha256((VENDOR / each["file"]).read_bytes()).hexdigest() == each["sha256"]
        assert (VENDOR / each["licenceFile"]).read_text().strip()
        assert each["name"]
        assert re.fullmatch(r"\d+\.\d+\.\d+", each["version"])


def test_nothing_asks_another_host() -> None:
    for asset in read_assets().values():
        text = asset.body.decode()
        assert not re.search(r"""(@import|url\(|src=|fetch\()\s*["']?https?:""", text), asset.path


async def test_an_address_changes_with_the_bytes_and_may_be_kept_for_good(console: StartedConsole) -> None:
    browser = await console.browser()
    asset = read_assets()["console.css"]
    assert sha256(asset.body).hexdigest().startswith(asset.path.split("/")[2])
    answer = await browser.get(asset.path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.text.encode() == asset.body
    assert (await browser.get(asset.path.replace(asset.path.split("/")[2], "0" * 16))).status == 404
    assert (await browser.get("/assets/0000000000000000/..%2Fpages.py")).status == 404


def test_what_is_compressed_beforehand_is_the_same() -> None:
    for asset in read_assets().values():
        assert gzip.decompress(asset.compressed) == asset.body


async def test_the_first_page_is_small(console: StartedConsole) -> None:
    browser = await console.owner()
    page = await browser.get("/")
    needed = set(re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text))
    assert len(needed) == 8
    by_path = {asset.path: asset for asset in read_assets().values()}
    assert len(page.text.encode()) + sum(len(by_path[path].compressed) for path in needed) <= MOST_BYTES / 2
