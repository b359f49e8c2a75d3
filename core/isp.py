"""The ISP's settings row as every page and service reads it, cached by its revision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from flask import g
from markupsafe import Markup
from sqlalchemy import select

from core.db import db
from core.prepared import Prepared
from models import Isp


class NotSetUp(Exception):
    """The database holds no ISP yet: `flask setup` makes it."""


@dataclass(frozen=True)
class IspView:
    """The brand and the rules of the ISP. `revision` changes with every change of the row."""

    revision: int
    name: str
    id_name: str
    currency: str
    timezone: str
    languages: tuple[str, ...]
    support_phone: str
    support_email: str
    accent: str
    accent_dark: str
    logo_svg: Markup | None
    terms_days: int
    pay_how: str
    is_demo: bool

    @property
    def language(self) -> str:
        """The first of its languages: what is used when nothing better is known."""
        return self.languages[0]

    @cached_property
    def brand_hash(self) -> str:
        """Changes when anything that a stylesheet or a constant page shows changes."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


_REVISION = Prepared(select(Isp.revision))
_cached: dict[str, IspView] = {}


def forget() -> None:
    """Drop what this request knows of the settings: after they were changed, and in tests."""
    _cached.clear()
    g.pop("isp_revision", None)
    g.pop("isp", None)


def current_isp() -> IspView:
    """The ISP's settings. Raises NotSetUp on an empty database.

    The revision comes with the session's query where there is a session (`g.isp_revision`),
    otherwise it is read; the rest of the row only when the revision is new to this process.
    """
    known: IspView | None = g.get("isp")
    if known is not None:
        return known
    url = str(db.engine.url)
    revision = g.get("isp_revision")
    if revision is None:
        row = _REVISION.find()
        if row is None:
            raise NotSetUp
        revision = g.isp_revision = row.revision
    view = _cached.get(url)
    if view is None or view.revision != revision:
        row = db.session.execute(select(Isp.__table__)).one()
        view = IspView(
            revision=row.revision,
            name=row.name,
            id_name=row.id_name,
            currency=row.currency,
            timezone=row.timezone,
            languages=tuple(row.languages),
            support_phone=row.support_phone,
            support_email=row.support_email,
            accent=row.accent,
            accent_dark=row.accent_dark,
            logo_svg=Markup(row.logo_svg) if row.logo_svg else None,  # noqa: S704 - set by the ISP
            terms_days=row.terms_days,
            pay_how=row.pay_how,
            is_demo=row.is_demo,
        )
        _cached[url] = view
    g.isp = view
    return view
