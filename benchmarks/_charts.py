"""Bars as SVG: a chart is a file that a page can show and a reader can search."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

_WIDTH, _LABEL, _ROW = 720, 150, 26


def write_bars(path: Path, title: str, unit: str, bars: Sequence[tuple[str, float]]) -> None:
    """Write one chart; the longest bar fills the width. The first part of a name that is ours makes its bar dark."""
    height = 44 + _ROW * len(bars)
    longest = max((value for _, value in bars), default=1) or 1
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        "<style>text{fill:#333}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
        f'<text x="0" y="18" font-size="15">{escape(title)} ({escape(unit)})</text>',
    ]
    for row, (name, value) in enumerate(bars):
        top = 34 + row * _ROW
        size = (_WIDTH - _LABEL - 80) * value / longest
        colour = "#1f5fbf" if name.startswith(("relay", "ours")) else "#9db3cf"
        lines += [
            f'<text x="0" y="{top + 15}" font-size="13">{escape(name)}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{max(size, 1):.1f}" height="18" fill="{colour}"/>',
            f'<text x="{_LABEL + size + 6:.1f}" y="{top + 14}" font-size="12">{value:,.3g}</text>',
        ]
    path.write_text("\n".join([*lines, "</svg>"]) + "\n", encoding="utf-8")
