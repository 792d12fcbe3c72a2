"""``subrosa admin``: what the console shows and does, in a terminal, over the admin API.

Commands are made from the registry, so that they ask for the same things as the pages, and go through the same permissions and the
same audit log. What a server sends is printed without control characters: a text must not work the terminal.
"""

import argparse
import asyncio
import json
import os
import ssl
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from messaging.console.forms import SENSITIVE, Field, Kind, fields_of, read_parameters
from messaging.console.page_map import CURSORS, domain_of, title_of
from messaging.console.showing import columns_of, kind_of, plain_members, tables_of
from messaging.console.translate import moment, size
from messaging.console.words import label_of
from messaging.relay.admin.desk import Action, View
from messaging.relay.admin.errors import InvalidInput
from messaging.relay.admin.limits import MAX_REASON
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.serving.http import is_loopback

DEFAULT_URL: Final = "http://127.0.0.1:8480"
TIMEOUT_SECONDS: Final = 60
MAX_TOKEN: Final = 1024  # characters of a file that could hold one
WAITS: Final = 3  # the exit code when a second operator has to approve
_ACCEPTED: Final = 202
_OTHERS_MAY_READ: Final = stat.S_IRWXG | stat.S_IRWXO

DESCRIPTION = """\
See and do from a terminal what the console shows. Make a token in the console (API tokens), put it into a file that only you can
read, and say where:

  export SUBROSA_ADMIN_TOKEN_FILE=~/.config/subrosa/token
  subrosa admin me
  subrosa admin accounts search --bots
  subrosa admin accounts show ACI

What changes something can be tried first. A dangerous action wants a reason, which stands in the audit log beside your name:

  subrosa admin accounts suspend ACI --dry-run
  subrosa admin accounts suspend ACI --reason "ticket 4711"

Where an action needs a second operator, it waits (exit code 3) until somebody else approves it:

  subrosa admin proposals list
  subrosa admin approve 7

subrosa admin GROUP --help lists what a group can do, and subrosa admin GROUP COMMAND --help explains one command. --json prints
what the API says, for programs; times are milliseconds since 1970 there. Exit codes: 0 done, 1 refused or failed, 2 wrong usage,
3 waiting.
"""


class Failure(Exception):
    """Why a command did not do what it was asked to, in one sentence."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call of the API."""

    verb: str
    path: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: Mapping[str, Any] = field(repr=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        request: Request = arguments.make(arguments)
        answer = asyncio.run(_call(arguments, request))
    except InvalidInput as error:
        names = ", ".join(_option(name) for name in error.fields)
        sys.stderr.write(f"admin: {error} {names}\n")
        return 2
    except Failure as error:
        sys.stderr.write(f"admin: {error}\n")
        return 1
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        sys.stderr.write(f"admin: the console cannot be reached at {arguments.url} ({type(error).__name__})\n")
        return 1
    return _tell(arguments, answer)


def _tell(arguments: argparse.Namespace, answer: Answer) -> int:
    good = answer.status < _ACCEPTED
    if arguments.json:
        sys.stdout.write(json.dumps(answer.body) + "\n")
    elif good:
        sys.stdout.write(arguments.show(answer.body))
    else:
        sys.stderr.write(f"admin: {refusal(answer.body)}\n")
    if good:
        return 0
    return WAITS if answer.status == _ACCEPTED else 1


def refusal(body: Mapping[str, Any]) -> str:
    """What was refused, and why."""
    fields = ", ".join(_option(str(name)) for name in body.get("fields", ()))
    proposal = f" It is proposal {body['proposal']}." if "proposal" in body else ""
    return plain(f"{body.get('message', 'It was refused.')}{' ' + fields if fields else ''}{proposal}")


# --- the call ---


async def _call(arguments: argparse.Namespace, request: Request) -> Answer:
    token = read_token(arguments.token_file)
    url = arguments.url.rstrip("/")
    _check_url(url)
    tls = ssl.create_default_context(cafile=arguments.ca_file) if arguments.ca_file else True
    headers = {"Authorization": f"Bearer {token}", "User-Agent": f"subrosa-admin/{version('subrosa')}"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout) as http,
        # A redirection would take the token elsewhere.
        http.request(
            request.verb, f"{url}/api/v1{request.path}", json=request.body, ssl=tls, allow_redirects=False
        ) as response,
    ):
        try:
            body = await response.json(content_type=None)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Failure("what answers there is not the console")
        return Answer(response.status, body)


def read_token(path: Path | None) -> str:
    """The token in a file.

    Raises:
        Failure: there is none, or others may read it.
    """
    if path is None:
        raise Failure("say with --token-file or SUBROSA_ADMIN_TOKEN_FILE where the token is")
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(MAX_TOKEN).strip()
    except (OSError, UnicodeDecodeError):
        raise Failure("the token's file cannot be read") from None
    if mode & _OTHERS_MAY_READ:
        raise Failure("others may read the token's file: chmod 600 it first")
    if not token or not token.isprintable() or " " in token:
        raise Failure("the file holds no token")
    return token


def _check_url(url: str) -> None:
    """A token goes through TLS, or stays on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return
    raise Failure("--url must begin with https://, or be http:// on this machine: a token is sent there")


# --- commands ---


def _parser(environment: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    common = _common(environment)
    parser = argparse.ArgumentParser(
        prog="subrosa admin", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = parser.add_subparsers(required=True, metavar="GROUP", title="groups and commands")
    _plain(
        groups, common, "me", "whose token this is, and what it permits", lambda _: Request("GET", "/me"), show_result
    )
    for decision, what in (("approve", "do what another operator has proposed"), ("reject", "let nobody do it")):
        added = _plain(
            groups, common, decision, what, _decides(decision), show_done if decision == "approve" else show_result
        )
        added.add_argument("proposal", type=int, metavar="NUMBER")
        if decision == "reject":
            _reason(added)
    named = sorted({domain_of(name) for name in (*VIEWS, *ACTIONS)})
    for domain in named:
        group = groups.add_parser(domain, help=title_of(domain), description=title_of(domain))
        commands = group.add_subparsers(required=True, metavar="COMMAND", title="commands")
        targets: list[View[Any, Any] | Action[Any]] = [*VIEWS.values(), *ACTIONS.values()]
        for target in sorted(targets, key=lambda each: each.name):
            if domain_of(target.name) == domain:
                _command(commands, common, target)
    return parser


def _common(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("where the console is")
    token_file = environment.get("SUBROSA_ADMIN_TOKEN_FILE")
    group.add_argument(
        "--url", default=environment.get("SUBROSA_ADMIN_URL", DEFAULT_URL), help=f"(default: {DEFAULT_URL})"
    )
    group.add_argument("--token-file", type=Path, default=token_file, metavar="PATH", help="holds a token of the API")
    group.add_argument("--ca-file", type=Path, metavar="PATH", help="certificates to trust instead of the system's")
    group.add_argument("--json", action="store_true", help="print what the API says")
    return common


def _plain(
    groups: Any,  # noqa: ANN401 - argparse has no public name for it
    common: argparse.ArgumentParser,
    name: str,
    what: str,
    make: Callable[[argparse.Namespace], Request],
    show: Callable[[Mapping[str, Any]], str],
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = groups.add_parser(name, parents=[common], help=what, description=what)
    added.set_defaults(make=make, show=show)
    return added


def _command(
    commands: Any,  # noqa: ANN401 - argparse has no public name for it
    common: argparse.ArgumentParser,
    target: View[Any, Any] | Action[Any],
) -> None:
    is_action = isinstance(target, Action)
    show = show_done if is_action else show_result
    name = target.name.partition(".")[2].replace("_", "-")
    danger = " Dangerous: it needs a reason." if isinstance(target, Action) and target.dangerous else ""
    added = _plain(commands, common, name, target.summary.rstrip("."), lambda arguments: _asks(arguments, target), show)
    added.description = f"{target.summary.rstrip('.')}.{danger} For tokens with {target.permission.value}."
    for each in fields_of(target.takes):
        _argument(added, each)
    if is_action:
        added.add_argument("--dry-run", action="store_true", help="say what it would touch, and do nothing")
        _reason(added)


def _reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help=f"why, for the audit log: up to {MAX_REASON} characters")


def _argument(parser: argparse.ArgumentParser, each: Field) -> None:
    hint = each.hint.replace("%", "%%") or ("where the list goes on" if each.name in CURSORS - {"limit"} else "")
    if each.name in SENSITIVE:
        hint = f"{hint} - reads it from standard input, which no list of processes shows.".strip()
    if each.default:
        hint = f"{hint} (default: {each.default})".strip()
    more: dict[str, Any] = {"help": hint or None}
    if each.choices:
        more["choices"] = each.choices
    if each.kind is Kind.YES_NO and not each.required:
        parser.add_argument(_option(each.name), dest=each.name, action="store_const", const="true", help=hint or None)
        return
    if each.kind in (Kind.CHOICES, Kind.LINES):
        more["nargs"] = "+"
    more["metavar"] = (
        _option(each.name)[2:].replace("-", "_").upper() if not each.choices or len(each.choices) > 6 else None
    )
    if each.required:
        parser.add_argument(each.name, **more)
    else:
        parser.add_argument(_option(each.name), dest=each.name, **more)


def _option(name: str) -> str:
    return "--" + "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)


def _asks(arguments: argparse.Namespace, target: View[Any, Any] | Action[Any]) -> Request:
    given = {each.name: getattr(arguments, each.name) for each in fields_of(target.takes)}
    typed = {
        name: [_from_input(name, each) for each in (value if isinstance(value, list) else [value])]
        for name, value in given.items()
        if value is not None
    }
    parameters = read_parameters(target.takes, typed).model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(target, View):
        return Request("POST", f"/views/{target.name}", parameters)
    body = {"parameters": parameters, "reason": arguments.reason, "dryRun": arguments.dry_run}
    return Request("POST", f"/actions/{target.name}", body)


def _from_input(name: str, value: str) -> str:
    return sys.stdin.readline().strip() if name in SENSITIVE and value == "-" else value


def _decides(decision: str) -> Callable[[argparse.Namespace], Request]:
    def make(arguments: argparse.Namespace) -> Request:
        body = {"reason": arguments.reason} if decision == "reject" else {}
        return Request("POST", f"/proposals/{arguments.proposal}/{decision}", body)

    return make


# --- for people ---


def show_result(body: Mapping[str, Any]) -> str:
    """What a view shows: its facts, then its tables."""
    tables = tables_of(body)
    parts = [_facts(plain_members(body))]
    for name, rows in tables.items():
        title = f"{label_of(name)}\n" if len(tables) > 1 or parts[0] else ""
        parts.append(title + (table(rows) if rows else "  nothing\n"))
    further = {name: body[name] for name in CURSORS - {"limit"} if body.get(name) is not None}
    more = "".join(f"Further on: {_option(name)} {plain(str(value))}\n" for name, value in sorted(further.items()))
    return "\n".join(part for part in (*parts, more) if part)


def show_done(body: Mapping[str, Any]) -> str:
    """What was done or tried, and what is shown once."""
    head = "It would touch:" if body.get("dryRun") else "Done."
    lines = [f"{head} {body.get('subject', '')}".rstrip()]
    lines += [f"  {effect['count']:>8}  {effect['what']}" for effect in body.get("effects", ())]
    for name, value in body.get("shown", {}).items():
        lines += ["", f"{label_of(name)}, shown this once:", f"  {value}"]
    return "".join(f"{plain(line)}\n" for line in lines)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under each other, columns as wide as what is in them."""
    names = columns_of(rows)
    cells = [[label_of(name) for name in names]] + [[_cell(name, row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in cells
    )


def _facts(members: Mapping[str, Any], indent: str = "") -> str:
    width = max((len(label_of(name)) for name in members), default=0)
    lines = []
    for name, value in members.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{plain(label_of(name))}\n{_facts(value, indent + '  ')}")
        else:
            lines.append(f"{indent}{plain(label_of(name)).ljust(width)}  {_cell(name, value)}".rstrip() + "\n")
    return "".join(lines)


def _cell(name: str, value: Any) -> str:  # noqa: ANN401 - JSON
    match kind_of(name, value):
        case "nothing" | "empty":
            return "-"
        case "yes_no":
            return "yes" if value else "no"
        case "time":
            return moment(value).strftime("%Y-%m-%d %H:%M:%S UTC")
        case "size":
            return size(value).replace("\N{NO-BREAK SPACE}", " ")
        case "estimate":
            return plain(f"{'about ' if value['estimated'] else ''}{value['count']}")
        case "chips" | "sentences":
            return plain(", ".join(map(str, value)))
        case "facts" | "table":
            return plain(json.dumps(value, ensure_ascii=False))
        case _:
            return plain(str(value))


def plain(text: str) -> str:
    """``text`` in one line, without what would work a terminal."""
    return "".join(character if character.isprintable() else "·" for character in text)


if __name__ == "__main__":
    sys.exit(main())
