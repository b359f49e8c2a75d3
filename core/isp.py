"""The ISP's settings row as every page and service reads it, cached by its revision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from weakref import WeakKeyDictionary

from flask import g
from markupsafe import Markup
from sqlalchemy import Engine, select

from core.bank_account import BankAccount
from core.billing_rules import DEFAULT_RULES, BillingRules
from core.db import db
from core.dunning_policy import USUAL_RULES, DunningRules
from core.pause_rules import PauseRules
from core.prepared import Prepared
from models import Isp, Maintenance

PRICE_NOTICE_DAYS = 30
"""How long before another price counts for them those who subscribe are told, where the catalog's
`[prices]` says nothing."""


class NotSetUp(Exception):
    """The database holds no ISP yet: `flask setup` makes it."""


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """When the portal is, or will be, closed, and why in the ISP's own words.

    `messages` are pairs of language and text; the one of "" is for everyone else.
    """

    is_on: bool
    from_at: datetime
    until_at: datetime
    messages: tuple[tuple[str, str], ...]

    def message(self, language: str) -> str:
        """The ISP's words in `language` or, where there are none, for everyone; may be ""."""
        known = dict(self.messages)
        return known.get(language) or known.get("", "")


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
    contact_rest_days: int
    billing_hour: int | None
    requires_second_factor: bool
    requires_mixed_password: bool
    is_demo: bool
    postal_address: str = ""
    frn: str = ""
    bank: BankAccount | None = None
    billing_rules: BillingRules = DEFAULT_RULES
    dunning: DunningRules = USUAL_RULES
    pause: PauseRules | None = None
    price_notice_days: int = PRICE_NOTICE_DAYS
    maintenance: MaintenanceWindow | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the portal is closed for maintenance."""
        return self.maintenance is not None and self.maintenance.is_on

    def find_announcement(self, now: datetime) -> MaintenanceWindow | None:
        """The maintenance that every page announces: one that is neither on nor over."""
        window = self.maintenance
        return None if window is None or window.is_on or window.until_at <= now else window

    @property
    def language(self) -> str:
        """The first of its languages: what is used when nothing better is known."""
        return self.languages[0]

    @cached_property
    def brand_hash(self) -> str:
        """Changes when anything that a stylesheet or a constant page shows changes."""
        shown = replace(
            self,
            billing_rules=DEFAULT_RULES,
            dunning=USUAL_RULES,
            pause=None,
            price_notice_days=PRICE_NOTICE_DAYS,
        )
        return hashlib.sha256(repr(shown).encode()).hexdigest()[:12]


_REVISION = Prepared(select(Isp.revision))
_cached: WeakKeyDictionary[Engine, IspView] = WeakKeyDictionary()


def forget() -> None:
    """Drop what this request knows of the settings: after they were changed, and in tests."""
    _cached.clear()
    g.pop("isp_revision", None)
    g.pop("isp", None)


def pin(view: IspView) -> None:
    """Let `current_isp()` answer with `view` for the rest of this request, without the database."""
    g.isp, g.is_pinned = view, True


def unpin() -> None:
    """Let this request ask the database after all: staff work also while the portal is closed."""
    if "is_pinned" in g:
        g.is_pinned = False


def pin_again() -> bool:
    """After `unpin`, because the database failed: let the rest of this request do without it. False
    when no `pin` came before."""
    if "is_pinned" not in g:
        return False
    g.is_pinned = True
    return True


def is_pinned() -> bool:
    """Whether this request does without the database: nobody is signed in then."""
    return bool(g.get("is_pinned"))


def at(revision: int) -> IspView:
    """The ISP's settings at the revision that the session's query brought: as `current_isp()`, for
    whoever has nothing else to ask."""
    view = _cached.get(db.engine)
    return view if view is not None and view.revision == revision else current_isp()


def current_isp() -> IspView:
    """The ISP's settings. Raises NotSetUp on an empty database.

    The revision comes with the session's query where there is a session (`g.isp_revision`),
    otherwise it is read; the rest of the row only when the revision is new to this process.
    """
    known: IspView | None = g.get("isp")
    if known is not None:
        return known
    revision = g.get("isp_revision")
    if revision is None:
        row = _REVISION.find()
        if row is None:
            raise NotSetUp
        revision = g.isp_revision = row.revision
    engine = db.engine
    view = _cached.get(engine)
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
            contact_rest_days=row.contact_rest_days,
            billing_hour=row.billing_hour,
            requires_second_factor=row.requires_second_factor,
            requires_mixed_password=row.requires_mixed_password,
            is_demo=row.is_demo,
            postal_address=row.postal_address,
            frn=row.frn,
            bank=BankAccount.read(row.bank_account),
            billing_rules=BillingRules.read(row.billing_rules),
            dunning=DunningRules.read((row.billing_rules or {}).get("dunning")),
            pause=PauseRules.read((row.billing_rules or {}).get("pause")),
            price_notice_days=(row.billing_rules or {})
            .get("prices", {})
            .get("notice_days", PRICE_NOTICE_DAYS),
            maintenance=_find_maintenance(),
        )
        _cached[engine] = view
    g.isp = view
    return view


def _find_maintenance() -> MaintenanceWindow | None:
    row = db.session.execute(select(Maintenance.__table__)).one_or_none()
    if row is None:
        return None
    return MaintenanceWindow(row.is_on, row.from_at, row.until_at, tuple(row.messages.items()))
