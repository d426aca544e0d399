"""The page. Everything that comes from outside is text, never markup."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment


def page(title: str, graph: str) -> str:
    """``graph`` is an SVG drawing that we have made, or empty."""
    source = resources.files("kamc.status").joinpath("templates/status.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(source).render(title=title, graph=graph)
