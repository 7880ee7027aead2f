"""The customers' documentation: Markdown in `docs/site`, whose numbers come from the catalogue and the settings.

A page is first a Django template (so a price or a limit is typed nowhere twice), then Markdown. A fenced block is
marked after its language with what a test does with it: `run` (it works as it stands), `settings` (it is what
`connect.py` writes), `shown` (there is nothing to try out)."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.template import Context, Engine
from django.utils.html import escape
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

FOLDER = settings.BASE_DIR / "docs" / "site"


@dataclass(frozen=True, slots=True)
class Document:
    """`slug` is its address below /docs/ and its file's name; the first one has none in its address."""

    slug: str
    title: str
    summary: str


DOCUMENTS = (
    Document("quick-start", "Quick start", "A key, four lines, and Claude Code answers through CCM."),
    Document("claude-code", "Claude Code", "Every variable CCM uses, and where to keep them."),
    Document("routing", "Routing", "Which model serves which request, and how to change that."),
    Document("api", "API reference", "The endpoints, the SDKs, and what every answer tells."),
    Document("pricing", "Prices and billing", "What a request costs, and what is never charged."),
    Document("limits", "Limits", "How much a key may ask for, and what happens beyond that."),
    Document("errors", "Errors", "Every error a client can meet, and what to do about it."),
    Document("privacy", "Privacy", "What CCM keeps of a request, and for how long."),
)


@dataclass(frozen=True, slots=True)
class Heading:
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Rendered:
    html: str
    headings: tuple[Heading, ...]


def find(slug: str) -> Document | None:
    return next((document for document in DOCUMENTS if document.slug == slug), None)


def render(document: Document, facts: Mapping[str, Any]) -> Rendered:
    """The page with `facts` filled in. What they hold is shown as text, whatever it holds."""
    return _rendered(_template(document.slug).render(Context(dict(facts), autoescape=False)))


@functools.cache
def _template(slug: str) -> Any:
    engine = Engine(libraries={"ccm": "adminui.templatetags.ccm"}, builtins=["adminui.templatetags.ccm"])
    return engine.from_string((FOLDER / f"{slug}.md").read_text())


@functools.lru_cache(maxsize=64)
def _rendered(source: str) -> Rendered:
    parser = _parser()
    tokens = parser.parse(source)
    headings = tuple(_with_anchors(tokens))
    _label_cells(tokens)
    return Rendered(parser.renderer.render(tokens, parser.options, {}), headings)


@functools.cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    for rule, draw in (("fence", _fence), ("table_open", _table_open), ("table_close", _table_close)):
        parser.add_render_rule(rule, draw)
    return parser


def _with_anchors(tokens: Sequence[Token]) -> list[Heading]:
    """Names each heading by its words, so that it can be linked to."""
    headings: list[Heading] = []
    taken: set[str] = set()
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open" or opening.tag not in {"h2", "h3"}:
            continue
        text = "".join(child.content for child in inline.children or ())
        anchor = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        if anchor in taken:
            raise ValueError(f"Two headings of one document are called {text!r}.")
        taken.add(anchor)
        opening.attrSet("id", anchor)
        if opening.tag == "h2":
            headings.append(Heading(anchor, text))
    return headings


def _label_cells(tokens: Sequence[Token]) -> None:
    """Each cell names its column, for phones, where a row is a small card. Our pages allow no style attributes: a
    column of numbers has a class instead."""
    names: list[str] = []
    column = 0
    for opening, inline in pairwise(tokens):
        if opening.type == "tr_open":
            column = 0
        if opening.type not in {"th_open", "td_open"}:
            continue
        if opening.type == "th_open":
            names[column:] = ["".join(child.content for child in inline.children or ())]
        else:
            opening.attrSet("data-label", names[column])
        if opening.attrs.pop("style", None) == "text-align:right":
            opening.attrSet("class", "num")
        column += 1


def _fence(_renderer: RendererHTML, tokens: Sequence[Token], place: int, _options: OptionsDict, _env: Any) -> str:
    """A block with its copy button, as adminui/static/adminui/site.js wants it."""
    language, _, use = tokens[place].info.strip().partition(" ")
    code, name = escape(tokens[place].content.rstrip("\n")), f"code-{place}"
    return (
        f'<div class="code-block"><button type="button" class="copy" data-copy="{name}" hidden>Copy</button>'
        f'<pre class="code" id="{name}" data-language="{escape(language)}" data-use="{escape(use)}" tabindex="0">'
        f"<code>{code}</code></pre></div>\n"
    )


def _table_open(_renderer: RendererHTML, tokens: Sequence[Token], place: int, *_others: Any) -> str:
    number = sum(token.type == "table_open" for token in tokens[: place + 1])
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Table {number}"><table class="stack">\n'


def _table_close(*_arguments: Any) -> str:
    return "</table></div>\n"
