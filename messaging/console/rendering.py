"""How a page is made: the templates' environment, and what every page knows. Everything shown is escaped; no template turns that off."""

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp_jinja2
import jinja2
from aiohttp import web

from messaging.console import page_map, showing, translate, words
from messaging.console.assets import read_assets
from messaging.console.parts import AT_RISK, CONSOLE, OPERATOR, Console
from messaging.relay.admin.errors import AdminError, InvalidInput
from messaging.relay.admin.registry import ACTIONS

FOLDER: Final = Path(__file__).with_name("templates")
THEMES: Final = ("auto", "light", "dark")
THEME_COOKIE, LANGUAGE_COOKIE = "theme", "language"
PRODUCT: Final = "Sub Rosa"
_HTMX: Final = json.dumps({"includeIndicatorCSS": False, "allowEval": False})  # what the page's policy would refuse
_GLOBALS: Final[Mapping[str, Any]] = {
    "product": PRODUCT,
    "version": importlib.metadata.version("subrosa"),
    "htmx_settings": _HTMX,
    "languages": translate.LANGUAGES,
    "ACTIONS": ACTIONS,
    "kind_of": showing.kind_of,
    "tone_of": showing.tone_of,
    "columns_of": showing.columns_of,
    "plain_members": showing.plain_members,
    "tables_of": showing.tables_of,
    "title_of": lambda domain: translate.gettext(page_map.title_of(domain)),
}
_FILTERS: Final[Mapping[str, Any]] = {
    "number": translate.number,
    "size": translate.size,
    "duration": translate.duration,
    "exact": translate.exact,
    "iso": lambda at: translate.moment(at).isoformat(timespec="seconds"),
    "label": lambda name: translate.gettext(words.label_of(name)),
    "short": lambda name: translate.gettext(words.short_name(name)),
    "words": lambda value: translate.gettext(words.words_of(value)),
    "query": urlencode,
    "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True),
    "said": translate.gettext,
    "summary": lambda text: translate.gettext(text).rstrip("."),
}


def set_up(app: web.Application) -> None:
    """Give ``app`` the templates; every handler of it may then :func:`render`."""
    assets = read_assets()
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(FOLDER),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_callables(translate.gettext, translate.ngettext, newstyle=True)  # type: ignore[attr-defined]
    environment.globals.update(_GLOBALS, asset=lambda name: assets[name].path)
    environment.filters.update(_FILTERS)


def render(
    request: web.Request, template: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> web.Response:
    """The page, in the language and the theme of who asks. It is for nobody else and not kept (see ``guards``)."""
    translate.speak(language_of(request))
    console: Console = request.app[CONSOLE]
    now = console.desk.now()
    operator = request.get(OPERATOR)
    theme = request.cookies.get(THEME_COOKIE, THEMES[0])
    common = {
        "operator": operator,
        "at_risk": request.get(AT_RISK, False),
        "navigation": [] if operator is None else page_map.navigation(operator),
        "here": request.path,
        "language": translate.language(),
        "theme": theme if theme in THEMES else THEMES[0],
        "source": console.settings.source_url,
        "ago": lambda at: translate.ago(at, now=now),
        "links": lambda view, at_hand, row=None: (
            [] if operator is None else page_map.links(operator, view, at_hand, row)
        ),
        "starters": lambda domain: [] if operator is None else page_map.starters(operator, domain),
        "tabs": lambda domain: [] if operator is None else page_map.tabs(operator, domain),
    }
    return aiohttp_jinja2.render_template(template, request, {**common, **(context or {})}, status=status)


def said_to(request: web.Request, sentence: str) -> str:
    """A sentence in the language of who asks."""
    translate.speak(language_of(request))
    return translate.gettext(sentence)


def language_of(request: web.Request) -> str:
    """The language in which a request is answered."""
    return translate.preferred(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("Accept-Language", ""))


def error_page(request: web.Request, error: AdminError) -> web.Response:
    """The page that says what went wrong, with the status of the error."""
    fields = error.fields if isinstance(error, InvalidInput) else ()
    return render(
        request, "error.html", {"sentence": str(error), "code": error.code, "fields": fields}, status=error.status
    )
