"""The copy of the permission table in the documentation says what the code says."""

from pathlib import Path

from messaging.relay.admin.permissions import GRANTED, Permission, Role

DOCS = Path(__file__).parents[2] / "docs" / "console.md"


def test_the_table_of_permissions_is_the_one_in_the_code() -> None:
    lines = DOCS.read_text().splitlines()
    start = lines.index(f"| may | {' | '.join(Role)} |")
    rows = {}
    for line in lines[start + 2 : start + 2 + len(Permission)]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = {role for role, cell in zip(Role, cells, strict=True) if cell == "yes"}
    assert rows == {
        permission.value: {role for role in Role if permission in GRANTED[role]} for permission in Permission
    }
