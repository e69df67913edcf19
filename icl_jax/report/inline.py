"""Figures inside a page: SVG that follows the page's colours and shares no id with its neighbours."""

import re

from icl_jax.report.html import Markup, tag

_TAG = re.compile(r"<[^>]+>")
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'url\(#([^)]+)\)|href="#([^"]+)"')
_LONG = re.compile(r"-?\d+\.\d{3,}")


def inline(svg: str, prefix: str, alt: str, dark: dict[str, str]) -> Markup:
    """Returns an SVG file of matplotlib as an element for a page.

    Ids that nothing refers to go, the others get `prefix`, so that they are unique where prefixes are.
    Colours in `dark` become CSS variables (see `palette`); fonts and line joins are left to the page.
    """
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)
    box = re.findall(r'viewBox="([^"]*)"', svg)[0]
    inner = svg[_end(svg, svg.index("<svg ")) : svg.rindex("</svg>")].strip()
    used = {a or b for a, b in _REFERENCE.findall(inner)}
    inner = _TAG.sub(lambda m: _rewritten(m[0], prefix, used, dark), inner)  # tags alone: text stays as it is
    inner = re.sub(r">\s+<", "><", inner)
    return tag("svg", Markup(inner), viewBox=box, role="img", aria_label=alt)


def _end(svg: str, start: int) -> int:
    return svg.index(">", start) + 1


def _rewritten(markup: str, prefix: str, used: set[str], dark: dict[str, str]) -> str:
    """A tag with its ids made unique, colours variable, numbers short."""
    markup = re.sub(r" font-family: [^;\"]*;?", "", markup.replace("xlink:href", "href")).replace("\n", " ")
    markup = _ID.sub(lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", markup)
    markup = _LONG.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), markup)
    markup = re.sub("|".join(dark), lambda m: f"var({_variable(m[0])})", markup)
    return _REFERENCE.sub(lambda m: f"url(#{prefix}{m[1]})" if m[1] else f'href="#{prefix}{m[2]}"', markup)


def _variable(colour: str) -> str:
    return f"--c{colour[1:]}"


def palette(dark: dict[str, str]) -> str:
    """Returns the CSS that gives each colour its value on light and on dark screens."""
    light = "".join(f"{_variable(c)}:{c};" for c in dark)
    darker = "".join(f"{_variable(c)}:{d};" for c, d in dark.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{darker}}}}}\n"


def colour(name: str, dark: dict[str, str]) -> str:
    """Returns a colour for a style attribute."""
    return f"var({_variable(name)})" if name in dark else name
