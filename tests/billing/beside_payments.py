"""What happens to money beside the payments that a gateway takes, as rules of a state machine:
vouchers, counter and bank, credit that moves, credits of staff, disputes; and the gateway's notices
as they come, repeated, late, and forged. Each rule knows what it must have changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from sqlalchemy.orm import Session

from blueprints.billing import adjusting, bank_import, booking, counter, transfers
from blueprints.billing.bank_files import BankFile, Incoming
from blueprints.billing.bank_import import Finding
from blueprints.billing.disputes import service as disputes
from blueprints.billing.disputes.service import Writer
from blueprints.billing.dunning.reading import disputed_minor
from blueprints.billing.errors import DecidedBefore, MoreThanCredit, SamePerson
from blueprints.billing.vouchers import batches
from blueprints.billing.vouchers import service as vouchers
from blueprints.billing.vouchers.batches import NewBatch, Printed
from blueprints.billing.vouchers.errors import VoucherExpired, VoucherUsed
from core import clock, ids
from core.db import db, reading, unit_of_work
from core.errors import NotFound, Refusal
from core.form_keys import ArrivedKey
from core.throttle import TooManyAttempts
from gateways.payments.sandbox.notices import NOTICE_PATH, SIGNATURE_HEADER, notice_body
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.signatures import signature_header
from tests.billing.conftest import Killed
from tests.billing.test_machine import LOST, NAMES, Billing
from tests.conftest import SEED
from tests.page import BASE

NUMBERS = st.integers(0, 3)
LIMIT_MINOR = 5_000
AMOUNTS = st.sampled_from([1, 2_500, LIMIT_MINOR, LIMIT_MINOR + 1, 45_000])
TOO_OLD = timedelta(minutes=6)
Decide = Callable[[str, int], None]


class Beside(Billing):
    """rich owns the other two accounts as well; ada and ben are staff."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.till.portal.world
        self.staff = self.world.customers
        self.secret = self.till.portal.settings.secret
        self.codes: list[tuple[str, str]] = []
        self.redeemed: dict[str, int] = {}
        self.dead_batches: set[str] = set()
        self.notices: list[bytes] = []
        self._read_lines = 0
        for name in ("alice", "mallory"):
            self.till.portal.execute(
                "INSERT INTO memberships (customer_id, account_id, role)"
                " VALUES (:customer, :account, 'owner')",
                customer=self.staff["rich"],
                account=self.account_id(name),
            )

    def account_id(self, name: str) -> int:
        return self.world.accounts[name]

    def balance(self, account_id: int) -> int:
        return int(
            self.till.portal.one("SELECT balance_minor FROM accounts WHERE id = :id", id=account_id)
        )

    def balances(self) -> dict[int, int]:
        return {
            key: int(minor) for key, minor in self._rows("SELECT id, balance_minor FROM accounts")
        }

    def _rows(self, sql: str) -> list[tuple[int, int]]:
        return self.till.portal.rows(sql)

    def _newest(self, sql: str, number: int) -> tuple[object, ...] | None:
        """The row of that number, the newest first."""
        found = self.till.portal.rows(f"{sql} LIMIT 4")
        return found[number] if number < len(found) else None

    # Money that arrives without the gateway -------------------------------------------------------

    @rule(
        number=NUMBERS,
        name=NAMES,
        minor=st.sampled_from([1, 2_000, 30_000]),
        is_cancelled=st.sampled_from([False, False, False, True]),
    )
    def redeem(self, number: int, name: str, minor: int, *, is_cancelled: bool) -> None:
        """One of the latest vouchers, of a new batch where there are too few; maybe its batch has
        been cancelled. The form is sent twice."""
        if number >= len(self.codes):
            self._print(minor)
        code, batch = self.codes[max(len(self.codes) - 1 - number, 0)]
        if is_cancelled:
            batches.cancel(batch)
            self.dead_batches.add(batch)
        before, account_id = self.balances(), self.account_id(name)
        key = self.till.key(name, "/voucher")
        try:
            path = self._redeem(name, code, key)
            assert path == self._redeem(name, code, key)
        except TooManyAttempts:
            assert self.balances() == before
        except VoucherUsed:
            assert code in self.redeemed
            assert self.balances() == before
        except VoucherExpired:
            assert batch in self.dead_batches
            assert self.balances() == before
        else:
            assert code not in self.redeemed
            assert batch not in self.dead_batches
            worth = int(self.till.latest("amount_minor"))
            self.redeemed[code] = worth
            assert self.balances() == before | {account_id: before[account_id] - worth}

    def _print(self, minor: int) -> None:
        new = NewBatch("Mill Street", minor, 2, None, self.staff["ben"])
        made = batches.make(new, self.till.key("ben", "/staff/vouchers"), self.secret)
        assert isinstance(made, Printed)
        self.codes += [(code, made.batch.public_id) for code in made.codes]

    def _redeem(self, name: str, code: str, key: ArrivedKey) -> str:
        return vouchers.redeem(
            self.account_id(name), self.staff[name], code, key, "/payments/{id}", self.secret,
            "192.0.2.1", (),
        )  # fmt: skip

    @rule(name=NAMES, minor=st.integers(1, 40_000), kind=st.sampled_from(counter.KINDS))
    def take_at_the_counter(self, name: str, minor: int, kind: str) -> None:
        before, account_id = self.balances(), self.account_id(name)
        key = self.till.key("ben", "/counter")
        for _ in range(2):
            counter.take(
                account_id, minor, kind, "No. 7", self.staff["ben"], key, "/{id}", is_sure=True
            )
        assert self.balances() == before | {account_id: before[account_id] - minor}

    @rule(name=NAMES, minor=st.integers(1, 40_000), is_named=st.booleans(), assigned=NAMES)
    def read_bank_file(self, name: str, minor: int, assigned: str, *, is_named: bool) -> None:
        """A file with two lines, one of them in the file before as well; read twice. What names no
        account staff assign, in the end."""
        before = self.balances()
        number = self.till.portal.one(
            "SELECT number FROM accounts WHERE id = :id", id=self.account_id(name)
        )
        self._read_lines += 1
        day = clock.today("America/Los_Angeles")
        lines = [
            Incoming(f"line-{n}", day, minor, "USD", "", number if is_named else "Hello")
            for n in (self._read_lines - 1, self._read_lines)
        ]
        new = self._import(lines)
        assert self._import(lines) == []
        assert len(new) == (2 if self._read_lines == 1 else 1)
        staff_id = self.staff["ben"]
        for (line,) in self.till.portal.rows(
            "SELECT public_id FROM bank_lines WHERE state IN ('proposed', 'unmatched')"
        ):
            to = self.till.portal.one(
                "SELECT number FROM accounts WHERE id = :id", id=self.account_id(assigned)
            )
            key = self.till.key("ben", "/assign")
            for _ in range(2):
                bank_import.assign(line, to, staff_id, key, "/done")
            with suppress(DecidedBefore):
                bank_import.ignore(line, staff_id, self.till.key("ben", "/ignore"), "/done")
                raise AssertionError("a line was decided twice")
        booked = self.account_id(name if is_named else assigned)
        assert self.balances() == before | {booked: before[booked] - minor * len(new)}

    def _import(self, lines: list[Incoming]) -> list[str]:
        """Read a file with these lines; the keys of those that were new."""
        content = " ".join(line.key for line in lines).encode()
        new: list[str] = []
        bank_import.import_file(
            content,
            BankFile(lines, 0),
            "file.csv",
            self.staff["ben"],
            lambda each: new.append(each.line.key) if each.finding is not Finding.KNOWN else None,
        )
        return new

    # Credit ---------------------------------------------------------------------------------------

    @rule(name=NAMES, to=NAMES, tenths=st.sampled_from([1, 5, 10, 11]))
    def move_credit(self, name: str, to: str, tenths: int) -> None:
        """A part of what there is, or more; moved by the same form twice."""
        before = self.balances()
        from_id, to_id = self.account_id(name), self.account_id(to)
        credit = max(-before[from_id], 0)
        minor = credit * tenths // 10
        key = self.till.key("rich", "/credit")
        try:
            for _ in range(2):
                transfers.move(
                    self.staff["rich"], from_id, self.world.public_ids[to], minor, key, "/done"
                )
        except NotFound:
            assert name == to
            assert self.balances() == before
        except MoreThanCredit:
            assert minor > credit or minor == 0
            assert self.balances() == before
        else:
            moved = {from_id: before[from_id] + minor, to_id: before[to_id] - minor}
            assert self.balances() == before | moved
            assert self.balance(from_id) <= 0

    @rule(
        name=NAMES,
        minor=AMOUNTS,
        of_invoice=st.one_of(st.none(), NUMBERS),
        part=st.sampled_from([None, 1, 700]),
        how=st.sampled_from([adjusting.approve, adjusting.refuse, None]),
    )
    def give_credit(
        self, name: str, minor: int, of_invoice: int | None, part: int | None, how: Decide | None
    ) -> None:
        """A credit, or a credit note over one of the latest bills or a part of its first line."""
        before, account_id = self.balances(), self.account_id(name)
        invoice = None if of_invoice is None else self._newest(
            "SELECT id, account_id FROM invoices WHERE kind <> 'credit' ORDER BY id DESC",
            of_invoice,
        )  # fmt: skip
        if invoice is not None:
            account_id = int(str(invoice[1]))
        wish = adjusting.Wish(
            account_id,
            "Asked for",
            self.staff["ben"],
            ids.public_id(),
            amount_minor=minor,
            invoice_id=None if invoice is None else int(str(invoice[0])),
            amounts=None if part is None or invoice is None else {1: part},
        )

        def work(session: Session) -> tuple[str, int, str]:
            given = adjusting.ask_credit(session, wish)
            return given.public_id, given.amount_minor, given.state

        try:
            public_id, given_minor, state = unit_of_work(work, account_id)
        except Refusal:
            assert self.balances() == before
            return
        after = before | {account_id: before[account_id] - given_minor}
        # What ben has given the account within a day counts with it.
        assert state == "asked" or given_minor <= LIMIT_MINOR
        if state == "booked":
            assert self.balances() == after
        assert self._decide(public_id, how) == (state == "asked" and how is not None)
        state = self._state_of("adjustments", public_id)
        assert self.balances() == (after if state == "booked" else before)

    def _decide(self, public_id: str, how: Decide | None) -> bool:
        """What a second member of staff says to a credit; False where nobody had to."""
        if how is None or self._state_of("adjustments", public_id) != "asked":
            return False
        with suppress(SamePerson):
            adjusting.approve(public_id, self.staff["ben"])
            raise AssertionError("approved by who asked")
        for _ in range(2):
            how(public_id, self.staff["ada"])
        return True

    @rule(number=NUMBERS, how=st.sampled_from([adjusting.approve, adjusting.refuse]))
    def decide_credit(self, number: int, how: Decide) -> None:
        """One that has waited: what is left of its bill may have become less meanwhile."""
        waiting = self._newest(
            "SELECT public_id FROM adjustments WHERE state = 'asked' ORDER BY id DESC", number
        )
        if waiting is None:
            return
        before = self.balances()
        try:
            how(str(waiting[0]), self.staff["ada"])
        except Refusal:
            assert how is adjusting.approve
            assert self._state_of("adjustments", str(waiting[0])) == "asked"
            assert self.balances() == before

    def _state_of(self, table: str, public_id: str) -> str:
        return str(
            self.till.portal.one(f"SELECT state FROM {table} WHERE public_id = :id", id=public_id)
        )

    # Disputes -------------------------------------------------------------------------------------

    @rule(
        number=NUMBERS,
        position=st.integers(1, 3),
        answer=st.sampled_from([disputes.grant, disputes.refuse, disputes.withdraw, None]),
        how=st.sampled_from([adjusting.approve, adjusting.refuse, None]),
    )
    def dispute(
        self,
        number: int,
        position: int,
        answer: Callable[..., str] | None,
        how: Decide | None,
    ) -> None:
        """A line of one of the latest bills: opened, or what stands about it goes on. What is
        granted gives back what is left of the line, and nothing else changes a balance."""
        invoice = self._newest(
            "SELECT public_id, account_id FROM invoices WHERE kind <> 'credit' ORDER BY id DESC",
            number,
        )
        if invoice is None:
            return
        account_id = int(str(invoice[1]))
        name = next(name for name in self.world.accounts if self.account_id(name) == account_id)
        key = self.till.key(name, "/dispute")
        with suppress(Refusal):
            for _ in range(2):
                disputes.open_dispute(
                    account_id, str(invoice[0]), position, "Not mine.", self.staff[name], key,
                    "{id}", self.secret,
                )  # fmt: skip
        standing = self._newest("SELECT public_id FROM disputes WHERE state = 'open'"
                                " ORDER BY id DESC", number)  # fmt: skip
        if standing is not None and answer is not None:
            self._answer(str(standing[0]), answer, how)

    def _answer(self, public_id: str, answer: Callable[..., str], how: Decide | None) -> None:
        before, account_id = self.balances(), disputes.account_of(public_id)
        with suppress(Refusal):
            key = self.till.key("ben", "/answer")
            if answer is disputes.withdraw:
                disputes.withdraw(account_id, public_id, key, "/")
            else:
                for _ in range(2):
                    answer(public_id, "We looked.", self.staff["ben"], key, "/")
        waiting = self.till.portal.rows(
            "SELECT a.public_id FROM adjustments a JOIN disputes d ON d.adjustment_id = a.id"
            " WHERE d.public_id = :id AND a.state = 'asked'",
            id=public_id,
        )
        if waiting:
            with suppress(Refusal):
                disputes.write(
                    account_id, public_id, "And?", Writer(self.staff["ada"], is_staff=True),
                    self.till.key("ada", "/write"), "/", self.secret,
                )  # fmt: skip
            with suppress(Refusal):
                self._decide(str(waiting[0][0]), how)
        given = self.till.portal.rows(
            "SELECT i.total_minor FROM disputes d JOIN invoices i ON i.id = d.credit_note_id"
            " WHERE d.public_id = :id AND d.state = 'granted'",
            id=public_id,
        )
        minor = int(given[0][0]) if given else 0
        assert self.balances() == before | {account_id: before[account_id] - minor}

    # Notices --------------------------------------------------------------------------------------

    @rule(
        number=st.integers(0, 6),
        copies=st.integers(1, 3),
        lost=LOST,
        fault=st.sampled_from([None, None, None, "late", "forged"]),
    )
    def deliver(self, number: int, copies: int, lost: str | None, fault: str | None) -> None:
        """One of the bank's notices of now or long ago, some times; or with a signature that is too
        old, or of somebody else, which changes nothing."""
        due = [notice_body(notice) for notice in self.till.portal.bank.list_due_notices(50)]
        self.notices += [body for body in due if body not in self.notices]
        if number >= len(self.notices):
            return
        body = self.notices[-1 - number]
        secrets = SandboxSecrets.of(["f" * 64 if fault == "forged" else SEED]).notice_secrets
        signed_at = clock.now() - (TOO_OLD if fault == "late" else timedelta(0))
        self.till.gateway.loses = lambda _call: lost
        before = self.balances(), self._rows("SELECT id, state FROM payments")
        header = signature_header(body, secrets, signed_at)
        for _ in range(copies):
            with suppress(Killed):
                answer = self.till.portal.app.test_client(use_cookies=False).post(
                    NOTICE_PATH,
                    data=body,
                    base_url=BASE,
                    headers={SIGNATURE_HEADER: header, "Content-Type": "application/json"},
                )
                assert answer.status_code == (200 if fault is None else 400)
        db.session.expire_all()
        if fault is not None:
            assert (self.balances(), self._rows("SELECT id, state FROM payments")) == before

    # What holds at any time -----------------------------------------------------------------------

    @invariant()
    def each_voucher_pays_once(self) -> None:
        found = self.till.portal.rows(
            "SELECT p.amount_minor FROM vouchers v JOIN payments p ON p.id = v.payment_id"
        )
        assert sorted(minor for (minor,) in found) == sorted(self.redeemed.values())
        assert self.till.portal.one(
            "SELECT count(*) FROM payments WHERE gateway = :gateway", gateway=booking.VOUCHER
        ) == len(self.redeemed)

    @invariant()
    def no_line_is_given_back_twice(self) -> None:
        assert not self.till.portal.rows(
            "SELECT i.id, l.position FROM invoices i"
            " JOIN invoice_lines l ON l.invoice_id = i.id"
            " JOIN invoices c ON c.corrects_id = i.id"
            " JOIN invoice_lines g ON g.invoice_id = c.id AND g.corrects_position = l.position"
            " GROUP BY i.id, l.position, l.amount_minor"
            " HAVING abs(sum(g.amount_minor)) > abs(l.amount_minor)"
        )

    @invariant()
    def no_payment_goes_back_twice(self) -> None:
        assert not self.till.portal.rows(
            "SELECT p.id FROM payments p JOIN payment_reversals r ON r.payment_id = p.id"
            " WHERE r.state NOT IN ('declined', 'refused')"
            " AND r.kind IN ('refund', 'refund_failed') GROUP BY p.id, p.amount_minor"
            " HAVING sum(CASE WHEN r.kind = 'refund' THEN r.amount_minor ELSE -r.amount_minor END)"
            " > p.amount_minor"
        )

    @invariant()
    def no_more_is_disputed_than_the_line(self) -> None:
        """With its taxes, once at a time; and no more rests than is open."""
        assert not self.till.portal.rows(
            "SELECT d.id FROM disputes d"
            " JOIN invoice_lines l ON l.invoice_id = d.invoice_id AND l.position = d.position"
            " WHERE d.amount_minor > l.amount_minor + (SELECT coalesce(sum(t.amount_minor), 0)"
            " FROM invoice_lines t WHERE t.invoice_id = d.invoice_id AND t.kind = 'tax')"
        )
        assert not self.till.portal.rows(
            "SELECT invoice_id FROM disputes WHERE state = 'open'"
            " GROUP BY invoice_id, position HAVING count(*) > 1"
        )
        opened = dict(self._rows("SELECT invoice_id, open_minor FROM invoice_balances"))
        with reading() as session:
            resting = disputed_minor(session, list(self.world.accounts.values()))
        assert all(minor <= opened.get(invoice_id, 0) for invoice_id, minor in resting.items())
