"""Pieces of an HTML page. What is not Markup is escaped, so nothing from a config can become markup."""

import html
from collections.abc import Iterable, Sequence

VOID = ("br", "meta", "link")


class Markup(str):
    """Text that is HTML already."""


def render(*children) -> Markup:
    """Returns children side by side: Markup as it is, sequences of children flat, None as nothing, other things as
    escaped text."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(render(*child))
        elif child is not None:
            parts.append(html.escape(str(child)))
    return Markup("".join(parts))


def tag(name: str, /, *children, **attributes) -> Markup:
    """Returns an element. Attributes: `class_` is class, `_` is -, None is absent, True is without a value."""
    shown = "".join(_attribute(n, value) for n, value in attributes.items() if value is not None)
    return Markup(f"<{name}{shown}>" if name in VOID else f"<{name}{shown}>{render(*children)}</{name}>")


def _attribute(name: str, value) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


def table(head: Sequence, rows: Iterable[Sequence], numbers: Iterable[int] = (), caption=None) -> Markup:
    """Returns a table in a container that scrolls by itself. numbers: columns set flush right."""
    numbers = set(numbers)
    side = lambda i: "number" if i in numbers else None
    header = tag("tr", [tag("th", h, scope="col", class_=side(i)) for i, h in enumerate(head)])
    body = [tag("tr", [tag("td", c, class_=side(i)) for i, c in enumerate(row)]) for row in rows]
    name = tag("caption", caption) if caption else None
    inner = tag("table", name, tag("thead", header), tag("tbody", body))
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption or "table")


def details(summary, *children, open_: bool = False) -> Markup:
    """Returns a part that opens on a click."""
    return tag("details", tag("summary", summary), *children, open=open_ or None)


def document(title: str, style: str, *body) -> Markup:
    """Returns a whole page."""
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    page = tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en")
    return Markup(f"<!DOCTYPE html>\n{page}\n")
