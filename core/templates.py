"""Templates as they are shown: one environment for each language, in which the words of the
templates are already translated.

A page asks for some thirty translations, and each asks what language it is in. Here the literal
words, `_('…')`, are looked up once, while a template is compiled for a language; only words that
come from code are translated while a page is made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from babel.support import Translations
from flask import Flask, current_app
from flask.templating import Environment as FlaskEnvironment
from jinja2 import Environment, StrictUndefined, Template, nodes
from jinja2.visitor import NodeTransformer

from core import words
from core.paths import path_for
from core.settings import ROOT

_UI = "components/ui.html"
# Macros whose markup depends on nothing but their arguments: it is kept.
PURE = (
    "icon", "mark", "icon_address", "money", "great_amount", "pill", "invoice_pill",
    "payment_pill", "button", "link_button", "outcome", "destination", "contact", "demo_strip",
    "hold_word",
)  # fmt: skip


@lru_cache(maxsize=32)
def _catalog(language: str) -> Translations:
    found = Translations.load(str(ROOT / "translations"), [language.replace("-", "_")])
    if not isinstance(found, Translations):
        return Translations()
    return found


class _Translated(NodeTransformer):
    """`_('words')` becomes the words in one language; with values, the words filled with them."""

    def __init__(self, language: str) -> None:
        self._catalog = _catalog(language)

    def visit_Call(self, node: nodes.Call, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node, *args, **kwargs)
        is_words = isinstance(node.node, nodes.Name) and node.node.name == "_"
        if not is_words or len(node.args) != 1 or not isinstance(node.args[0], nodes.Const):
            return node
        text = self._catalog.ugettext(node.args[0].value)
        if not node.kwargs:
            return nodes.TemplateData(text % {}, lineno=node.lineno)
        values = [
            nodes.Pair(nodes.Const(pair.key, lineno=node.lineno), pair.value, lineno=node.lineno)
            for pair in node.kwargs
        ]
        return nodes.Mod(
            nodes.TemplateData(text, lineno=node.lineno),
            nodes.Dict(values, lineno=node.lineno),
            lineno=node.lineno,
        )


class TranslatingEnvironment(FlaskEnvironment):
    """Compiles templates into the language that `in_language` gave it, if any."""

    into: str | None = None

    def in_language(self, language: str) -> TranslatingEnvironment:
        """The same environment for one language, with a cache of its own."""
        made = self.overlay()
        made.into = language
        return made

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        if self.into is not None:
            tree = _Translated(self.into).visit(tree)
        return tree


PageContext = Callable[[str], dict[str, Any]]


def install(app: Flask, page_context: PageContext) -> None:
    """Give the app's templates their filters and strictness, before its first template is read,
    and `page_context`, which makes from a language what every page knows."""
    app.extensions["page_context"] = page_context
    app.jinja_environment = TranslatingEnvironment
    environment = app.jinja_env
    environment.undefined = StrictUndefined
    environment.trim_blocks = True
    environment.lstrip_blocks = True
    words.install_filters(app)
    environment.globals["url_for"] = path_for
    app.extensions["path_shapes"] = {}
    app.extensions["templates"] = Templates(environment)


class Templates:
    """The environments and macros of the languages met so far."""

    def __init__(self, base: Environment) -> None:
        self._base = cast("TranslatingEnvironment", base)  # `install` chose it
        self._environments: dict[str, TranslatingEnvironment] = {}
        self._macros: dict[str, Any] = {}

    def environment(self, language: str) -> TranslatingEnvironment:
        found = self._environments.get(language)
        if found is None:
            found = self._environments[language] = self._base.in_language(language)
        return found

    def macros(self, language: str, functions: dict[str, Any]) -> Any:
        found = self._macros.get(language)
        if found is None:
            template = self.environment(language).get_template(_UI)
            found = template.make_module(functions | {"lang": language})
            for name in PURE:
                setattr(found, name, lru_cache(maxsize=1024)(getattr(found, name)))
            self._macros[language] = found
        return found


def get(name: str, language: str) -> Template:
    """The template `name` in `language`. Raises TemplateNotFound."""
    made: Templates = current_app.extensions["templates"]
    return made.environment(language).get_template(name)


def page_context(language: str) -> dict[str, Any]:
    """What every page of this request knows."""
    make: PageContext = current_app.extensions["page_context"]
    return make(language)


def macros(language: str, **functions: Any) -> Any:
    """The macros of components/ui.html in `language`, made once; `functions` are what they call
    while a page is made, and must not depend on the page."""
    made: Templates = current_app.extensions["templates"]
    return made.macros(language, functions)
