"""Batches of vouchers, as staff make, print and cancel them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from blueprints.billing.vouchers import codes
from core import clock, form_keys, ids
from core.db import db, unit_of_work
from core.errors import NotFound
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money
from models import Customer, Voucher, VoucherBatch

MOST = 1_000
MAXIMUM_MINOR = 1_000_000
LISTED = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch and what became of its vouchers."""

    public_id: str
    name: str
    amount: Money
    count: int
    redeemed: int
    made_at: datetime
    made_by: str
    expires_on: date | None
    is_expired: bool
    cancelled_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What staff ask for."""

    name: str
    amount_minor: int
    count: int
    expires_on: date | None
    made_by_id: int


@dataclass(frozen=True, slots=True)
class Printed:
    """The one time that the codes are there, in the order of their serial numbers."""

    batch: Batch
    codes: list[str] = field(repr=False)


def make(new: NewBatch, key: ArrivedKey, secret: bytes) -> Printed | str:
    """Make the batch; its codes are in this answer alone. When the form has arrived before, the
    path of the batch, without its codes."""
    made = [codes.make() for _ in range(new.count)]
    hashes = [codes.hash_of(secret, code) for code in made]
    public_id = ids.public_id()
    currency = current_isp().currency

    def work(session: Session) -> str:
        batch = VoucherBatch(
            public_id=public_id,
            name=new.name,
            amount_minor=new.amount_minor,
            currency=currency,
            voucher_count=new.count,
            made_by_id=new.made_by_id,
            made_at=clock.now(),
            expires_on=new.expires_on,
        )
        session.add(batch)
        session.flush()
        session.connection().execute(
            insert(Voucher),
            [
                {"batch_id": batch.id, "serial": serial, "code_hash": code_hash}
                for serial, code_hash in enumerate(hashes, start=1)
            ],
        )
        return path_of(public_id)

    path = form_keys.once(key, work)
    if path != path_of(public_id):
        return path
    return Printed(get(public_id), [codes.grouped(code) for code in made])


def path_of(public_id: str) -> str:
    return f"/staff/vouchers/{public_id}"


def list_batches() -> list[Batch]:
    """The newest batches first."""
    return _read(None)


def get(public_id: str) -> Batch:
    """Raises NotFound."""
    found = _read(public_id)
    if not found:
        raise NotFound
    return found[0]


def cancel(public_id: str) -> None:
    """Let no voucher of the batch be redeemed any more. Raises NotFound."""

    def work(session: Session) -> None:
        found = session.scalar(select(VoucherBatch.id).where(VoucherBatch.public_id == public_id))
        if found is None:
            raise NotFound
        session.execute(
            update(VoucherBatch)
            .where(VoucherBatch.id == found, VoucherBatch.cancelled_at.is_(None))
            .values(cancelled_at=clock.now())
        )

    unit_of_work(work)


def _read(public_id: str | None) -> list[Batch]:
    redeemed = (
        select(func.count())
        .select_from(Voucher)
        .where(Voucher.batch_id == VoucherBatch.id, Voucher.payment_id.is_not(None))
        .scalar_subquery()
    )
    asked = (
        select(VoucherBatch, redeemed.label("redeemed"), Customer.name)
        .outerjoin(Customer, Customer.id == VoucherBatch.made_by_id)
        .order_by(VoucherBatch.id.desc())
        .limit(LISTED)
    )
    if public_id is not None:
        asked = asked.where(VoucherBatch.public_id == public_id)
    today = clock.today(current_isp().timezone)
    return [
        Batch(
            row.public_id,
            row.name,
            Money(row.amount_minor, row.currency),
            row.voucher_count,
            count,
            row.made_at,
            made_by or "",
            row.expires_on,
            row.expires_on is not None and row.expires_on < today,
            row.cancelled_at,
        )
        for row, count, made_by in db.session.execute(asked)
    ]
