"""Moving house: asked for by the customer, decided by staff, and so on its day.

Staff say in which area the new place lies and from which day on; where the plan in use is not had
there, they choose the one that follows it. On the day the address and the area of the account
change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.billing.drafting import address_lines
from blueprints.dashboard.plans import changing, offers
from blueprints.dashboard.plans.errors import (
    AccountClosed,
    DecidedMeanwhile,
    EndUnderWay,
    MoveUnderWay,
    NotHadThere,
    NotOffered,
    NotUndoable,
    PlanMissing,
    PlanNotFound,
    SameAddress,
)
from blueprints.dashboard.plans.offers import InUse
from blueprints.dashboard.plans.quoting import When, Wish
from core import (
    activity,
    addressees,
    clock,
    due_work,
    form_keys,
    ids,
    outbox,
    revisions,
    search_terms,
)
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.topics import Topic
from core.words import language
from models import (
    MOVE_WAITS,
    Account,
    AccountStatus,
    Contact,
    ContactKind,
    Move,
    MoveState,
    Plan,
    PlanChange,
    PlanKind,
)

PARTS = ("street", "city", "region", "postcode")


@dataclass(frozen=True, slots=True)
class NewPlace:
    """Where somebody moves to, from which day on, and what they say about it."""

    address: Mapping[str, str]
    wished_on: date
    note: str


# By the customer ---------------------------------------------------------------------------------


def ask(account_id: int, to: NewPlace, customer_id: int, key: ArrivedKey, path: str) -> str:
    """Ask to move there; the path that shows it, which is `path` with its public id for `{id}`.
    Raises ChangeRefused."""
    current_isp()

    def work(session: Session) -> str:
        if session.get_one(Account, account_id).status != AccountStatus.ACTIVE:
            raise AccountClosed
        if session.scalar(
            select(Move.id).where(Move.account_id == account_id, Move.state.in_(MOVE_WAITS))
        ):
            raise MoveUnderWay
        former = _find_address(session, account_id)
        address = {key: value for key, value in to.address.items() if value}
        if former is not None and (former.address or {}).get("country"):
            address["country"] = (former.address or {})["country"]
        if former is not None and former.value == _on_one_line(address):
            raise SameAddress
        made = Move(
            public_id=ids.public_id(),
            account_id=account_id,
            customer_id=customer_id,
            address=address,
            wished_on=to.wished_on,
            note=to.note,
            state=MoveState.ASKED.value,
            answer="",
            created_at=clock.now(),
        )
        session.add(made)
        session.flush()
        _note(session, made, "move_asked")
        return path.format(id=made.public_id)

    return form_keys.once(key, work, account_id)


def withdraw(account_id: int, public_id: str, customer_id: int, key: ArrivedKey, path: str) -> str:
    """Take back that the account moves, until the day before; `path`. Raises PlanNotFound,
    ChangeRefused."""
    language()

    def work(session: Session) -> str:
        made = get(session, account_id, public_id)
        if made.state == MoveState.UNDONE:
            return path
        if not can_withdraw(made):
            raise NotUndoable
        was_planned = made.state == MoveState.PLANNED
        _end(made, MoveState.UNDONE)
        session.flush()  # what comes back is had where the account is
        if made.change_id is not None:
            changing.take_back_of_move(session, session.get_one(PlanChange, made.change_id))
        made.customer_id = made.customer_id or customer_id
        _note(session, made, "move_undone")
        if was_planned:
            _tell(session, made, "undone")
        return path

    return form_keys.once(key, work, account_id)


def can_withdraw(made: Move) -> bool:
    """Whether it waits for staff, or for its day."""
    if made.state == MoveState.ASKED:
        return True
    today = clock.today(current_isp().timezone)
    return made.state == MoveState.PLANNED and made.move_on is not None and made.move_on > today


# By staff ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """From which day on the account is in the area; `plan_code` is the internet plan that it has
    there, empty for the one it has."""

    on: date
    area_code: str
    plan_code: str


def accept(public_id: str, to: Decision, staff_id: int, key: ArrivedKey, path: str) -> str:
    """Let the account move; `path`. Raises PlanNotFound, ChangeRefused."""
    language()
    changing.check_day(to.on)
    today = clock.today(current_isp().timezone)

    def work(session: Session) -> str:
        made = _take_asked(session, account_id, public_id)
        contract = offers.read_contract(session, account_id, today)
        if not contract.is_open:
            raise AccountClosed
        if changing.is_to_end(session, account_id):
            raise EndUnderWay
        old = _find_followed(contract, to)
        made.move_on, made.area_code, made.decided_by_id = to.on, to.area_code, staff_id
        made.state = MoveState.PLANNED.value
        session.flush()  # what follows is quoted with the taxes of the new area
        if old is not None:
            wish = Wish(account_id, old.public_id, to.plan_code, When.NOW, to.on, to.area_code)
            made.change_id = changing.make_of_move(session, wish, made.customer_id, staff_id).id
        _tell(session, made, "accepted")
        if to.on <= today:
            _take_effect(session, made)
        else:
            starts = datetime.combine(to.on, time(), ZoneInfo(current_isp().timezone))
            made.due_at = starts.astimezone(UTC)
            _note(session, made, "move_planned")
        return path

    account_id = account_of(public_id)
    return form_keys.once(key, work, account_id)


def _find_followed(contract: offers.Contract, to: Decision) -> InUse | None:
    """The internet plan that another is to follow there, if any. Raises ChangeRefused."""
    lacking = list_lacking(contract, to.area_code)
    internet = [each for each in lacking if each.plan.kind == PlanKind.INTERNET]
    others = [each.plan.name for each in lacking if each not in internet[:1]]
    if others:
        raise NotHadThere(", ".join(others))
    if internet and to.plan_code in ("", internet[0].plan.code):
        raise PlanMissing
    had = [each for each in contract.in_use if each.plan.kind == PlanKind.INTERNET]
    if not to.plan_code or not had:
        return None
    if any(each.plan.code == to.plan_code and each.ended_on is None for each in had):
        if internet:
            raise NotOffered  # it is had on another line, and can be had once only
        return None
    return (internet or had)[0]


def list_lacking(contract: offers.Contract, area_code: str) -> list[InUse]:
    """What the account subscribes to and cannot have in the area."""
    return [
        each
        for each in contract.in_use
        if each.ended_on is None and not offers.is_had_in(each.plan, area_code)
    ]


def refuse(public_id: str, why: str, staff_id: int, key: ArrivedKey, path: str) -> str:
    """Say no, and why, also after all where its day is still to come; `path`. Raises PlanNotFound,
    ChangeRefused."""
    language()

    def work(session: Session) -> str:
        made = get(session, account_id, public_id)
        if not can_withdraw(made):
            raise DecidedMeanwhile
        _end(made, MoveState.REFUSED)
        session.flush()  # what comes back is had where the account is
        if made.change_id is not None:
            changing.take_back_of_move(session, session.get_one(PlanChange, made.change_id))
        made.answer = why
        made.decided_by_id = staff_id
        _note(session, made, "move_refused")
        _tell(session, made, "refused")
        return path

    account_id = account_of(public_id)
    return form_keys.once(key, work, account_id)


def account_of(public_id: str) -> int:
    """Whose move it is. Raises PlanNotFound."""
    found = db.session.scalar(select(Move.account_id).where(Move.public_id == public_id))
    if found is None:
        raise PlanNotFound
    return found


def _take_asked(session: Session, account_id: int, public_id: str) -> Move:
    made = get(session, account_id, public_id)
    if made.state != MoveState.ASKED:
        raise DecidedMeanwhile
    return made


# By the worker -----------------------------------------------------------------------------------


def take_effect_due() -> int:
    """A duty of the worker: change the addresses whose day has come; how many."""
    return due_work.do(Move, Move.due_at, _take_effect_of)


def _take_effect_of(move_id: int) -> None:
    account_id = db.session.execute(select(Move.account_id).where(Move.id == move_id)).scalar_one()
    current_isp()

    def work(session: Session) -> None:
        made = session.get_one(Move, move_id, populate_existing=True)
        if made.state == MoveState.PLANNED:
            _take_effect(session, made)
        else:
            made.due_at = None

    unit_of_work(work, account_id)


# Within a unit of work ---------------------------------------------------------------------------


def get(session: Session, account_id: int, public_id: str) -> Move:
    """The move of this account. Raises PlanNotFound."""
    made = session.scalars(
        select(Move).where(Move.account_id == account_id, Move.public_id == public_id)
    ).one_or_none()
    if made is None:
        raise PlanNotFound
    return made


def _find_address(session: Session, account_id: int) -> Contact | None:
    """The postal address that is on file."""
    return session.scalars(
        select(Contact)
        .where(
            Contact.account_id == account_id,
            Contact.kind == ContactKind.POSTAL.value,
            Contact.ended_on.is_(None),
        )
        .order_by(Contact.since_on, Contact.id)
    ).first()


def _on_one_line(address: Mapping[str, str]) -> str:
    return ", ".join(address_lines(address))


def _take_effect(session: Session, made: Move) -> None:
    """The account is at the new address from now on, in its area."""
    today = clock.today(current_isp().timezone)
    session.execute(
        update(Contact)
        .where(
            Contact.account_id == made.account_id,
            Contact.kind == ContactKind.POSTAL.value,
            Contact.ended_on.is_(None),
        )
        .values(ended_on=today)
    )
    value = _on_one_line(made.address)
    known = session.scalars(
        select(Contact).where(
            Contact.account_id == made.account_id,
            Contact.kind == ContactKind.POSTAL.value,
            Contact.value == value,
        )
    ).one_or_none()
    if known is None:
        known = Contact(account_id=made.account_id, kind=ContactKind.POSTAL.value, value=value)
        session.add(known)
    known.address, known.since_on, known.ended_on = dict(made.address), today, None
    session.get_one(Account, made.account_id).area_code = made.area_code
    _end(made, MoveState.DONE)
    session.flush()
    search_terms.refresh(session, [made.account_id])
    _note(session, made, "moved")
    _tell(session, made, "done")


def _end(made: Move, state: MoveState) -> None:
    made.state = state.value
    made.ended_at = clock.now()
    made.due_at = made.claimed_until_at = None


def _note(session: Session, made: Move, kind: str) -> None:
    event = activity.Event(
        kind, clock.now(), account_id=made.account_id, customer_id=made.customer_id
    )
    activity.record(session, [event])
    revisions.raise_account(session, made.account_id)


def _tell(session: Session, made: Move, what: str) -> None:
    session.flush()
    plan = session.scalar(
        select(Plan.name)
        .join(PlanChange, PlanChange.to_plan_id == Plan.id)
        .where(PlanChange.id == made.change_id)
    )
    outbox.queue(
        session,
        [
            outbox.Letter(
                "move",
                each.recipient,
                each.language,
                account_id=each.account_id,
                customer_id=each.customer_id,
                channel=each.channel.value,
                facts={
                    "account": each.account_public_id,
                    "account_number": each.account_number,
                    "move": made.public_id,
                    "what": what,
                    "move_on": (made.move_on or made.wished_on).isoformat(),
                    "place": _on_one_line(made.address),
                    "plan": plan or "",
                    "answer": made.answer,
                },
            )
            for each in addressees.find(session, [made.account_id], Topic.SERVICE)
        ],
    )
