"""Every route of the portal with an address that reaches it, for the tests that walk them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from flask import Flask
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app import create_app
from blueprints.billing.prices import Existing
from blueprints.dashboard.activity.service import stamp_of
from blueprints.dashboard.plans import quoting
from blueprints.staff.prices import planning
from core import activity, clock, flows, row_names, sessions
from core.db import db, reading, unit_of_work
from core.ids import hash_token
from core.policy import FIRST_PAGES, SAFE_METHODS
from gateways.network import simulated_traffic
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.store import SandboxStore
from gateways.voice.base import Feature, NumberSettings
from models import (
    Account,
    Adjustment,
    BankImport,
    BankLine,
    Base,
    BillRun,
    CallImport,
    CallRecord,
    Charge,
    Contact,
    ContactChange,
    Customer,
    Device,
    Dispute,
    DisputePost,
    DunningRest,
    FactorReset,
    Flow,
    FlowKind,
    Invitation,
    Invoice,
    Isp,
    Line,
    Move,
    Nas,
    Pause,
    PaymentMethod,
    PhoneNumber,
    Plan,
    PlanChange,
    PlanKind,
    PlannedPayment,
    PostalLetter,
    PriceChange,
    Subscription,
    TaxExemption,
    UsageDay,
    UsageSession,
    UsageSource,
    VoucherBatch,
)
from tests import world
from tests.conftest import Portal
from tests.dashboard.plans import shop
from tests.page import BASE, Visitor

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")
CUSTOMERS = ("alice", "bob", "vera", "theo", "mallory")
WHO = ("anonymous", *CUSTOMERS, *world.STAFF)

_PATHS = {
    "static": "/static/js/portal-0123456789.js",
    "health": "/health",
    "metrics": "/metrics",
    "support.help": "/help",
    "support.broadband_facts": "/broadband-facts",
    "support.broadband_facts_csv": "/broadband-facts/csv",
    "auth.sign_in": "/sign-in",
    "auth.sign_in_post": "/sign-in",
    "auth.staff_sign_in": "/staff/sign-in",
    "auth.staff_sign_in_post": "/staff/sign-in",
    "auth.welcome": "/welcome/nothing",
    "auth.welcome_post": "/welcome/nothing",
    "auth.sign_out": "/sign-out",
    "auth.register": "/register",
    "auth.register_post": "/register",
    "auth.register_way": "/register/way",
    "auth.register_way_post": "/register/way",
    "auth.register_code": "/register/code",
    "auth.register_code_post": "/register/code",
    "auth.register_account": "/register/account",
    "auth.register_account_post": "/register/account",
    "auth.register_id": "/register/id",
    "auth.register_id_post": "/register/id",
    "auth.register_strength": "/register/strength",
    "auth.register_free": "/register/free",
    "auth.recover": "/recover",
    "auth.recover_post": "/recover",
    "auth.recover_way": "/recover/way",
    "auth.recover_way_post": "/recover/way",
    "auth.recover_code": "/recover/code",
    "auth.recover_code_post": "/recover/code",
    "auth.recover_sent": "/recover/sent",
    "auth.recover_which": "/recover/which",
    "auth.recover_which_post": "/recover/which",
    "auth.recover_password": "/recover/password",
    "auth.recover_password_post": "/recover/password",
    "auth.recover_strength": "/recover/strength",
    "auth.recover_link": "/recover/link/nothing",
    "auth.recover_link_post": "/recover/link/nothing",
    "auth.recover_link_strength": "/recover/link/nothing/strength",
    "auth.find_id": "/forgot-id",
    "auth.find_id_post": "/forgot-id",
    "auth.find_id_way": "/forgot-id/way",
    "auth.find_id_way_post": "/forgot-id/way",
    "auth.find_id_sent": "/forgot-id/sent",
    "auth.welcome_strength": "/welcome/nothing/strength",
    "auth.confirm": "/confirm",
    "auth.confirm_post": "/confirm",
    "auth.confirm_passkey": "/confirm/passkey",
    "auth.passkey_options": "/sign-in/passkey",
    "auth.passkey_sign_in": "/sign-in/passkey",
    "auth.second_step_page": "/sign-in/second-step",
    "auth.second_step_post": "/sign-in/second-step",
    "auth.second_step_passkey": "/sign-in/second-step/passkey",
    "auth.second_step_send": "/sign-in/second-step/send",
    "auth.enrol": "/sign-in/second-step/new",
    "auth.enrol_post": "/sign-in/second-step/new",
    "auth.enrol_app": "/sign-in/second-step/new/app",
    "auth.enrol_passkey": "/sign-in/second-step/new/passkey",
    "auth.lost_begin": "/sign-in/second-step/lost",
    "auth.lost": "/sign-in/lost",
    "auth.lost_post": "/sign-in/lost",
    "auth.lost_send": "/sign-in/lost/send",
    "auth.lost_ask": "/sign-in/lost/staff",
    "auth.factor_list": "/settings/second-step",
    "auth.factor_remove_page": "/settings/second-step/remove",
    "auth.factor_remove": "/settings/second-step/remove",
    "auth.app_page": "/settings/second-step/app",
    "auth.app_start": "/settings/second-step/app",
    "auth.app_check": "/settings/second-step/app/check",
    "auth.app_check_post": "/settings/second-step/app/check",
    "auth.message_page": "/settings/second-step/message",
    "auth.message_start": "/settings/second-step/message",
    "auth.message_check": "/settings/second-step/message/check",
    "auth.message_check_post": "/settings/second-step/message/check",
    "auth.message_send_page": "/settings/second-step/message/send",
    "auth.message_send": "/settings/second-step/message/send",
    "auth.passkey_page": "/settings/second-step/passkey",
    "auth.passkey_add": "/settings/second-step/passkey",
    "auth.recovery_codes_page": "/settings/second-step/recovery-codes",
    "auth.recovery_codes_make": "/settings/second-step/recovery-codes",
    "auth.recovery_codes_kept": "/settings/second-step/recovery-codes/kept",
    "demo.mailbox": "/demo/mailbox",
    "demo.mailbox_message": "/demo/mailbox/a-message",
    "dashboard.index": "/",
    "dashboard.choose_account": "/accounts",
    "dashboard.home": "/a/{account}/",
    "activity.event_list": "/activity",
    "activity.not_me": "/activity/not-me/{event}",
    "usage.period": "/a/{account}/usage/",
    "usage.months": "/a/{account}/usage/months",
    "usage.sessions": "/a/{account}/usage/sessions",
    "usage.csv": "/a/{account}/usage/csv",
    "usage.top_up": "/a/{account}/usage/top-up",
    "usage.top_up_post": "/a/{account}/usage/top-up",
    "usage.alerts": "/a/{account}/usage/alerts",
    "usage.alerts_post": "/a/{account}/usage/alerts",
    "equipment.overview": "/a/{account}/equipment/",
    "equipment.restart": "/a/{account}/equipment/restart",
    "equipment.restart_post": "/a/{account}/equipment/restart",
    "equipment.wifi": "/a/{account}/equipment/wifi",
    "equipment.wifi_post": "/a/{account}/equipment/wifi",
    "equipment.refresh": "/a/{account}/equipment/refresh",
    "equipment.outcome": "/a/{account}/equipment/outcome",
    "plans.list": "/a/{account}/plans/",
    "plans.channels": "/a/{account}/plans/channels",
    "plans.compare": "/a/{account}/plans/{subscription}/change",
    "plans.switch": "/a/{account}/plans/{subscription}/change/FIBER-1000",
    "plans.switch_post": "/a/{account}/plans/{subscription}/change/FIBER-1000",
    "plans.add": "/a/{account}/plans/add/STATIC-IP",
    "plans.add_post": "/a/{account}/plans/add/STATIC-IP",
    "plans.remove": "/a/{account}/plans/{package}/remove",
    "plans.remove_post": "/a/{account}/plans/{package}/remove",
    "plans.end": "/a/{account}/plans/end",
    "plans.end_post": "/a/{account}/plans/end",
    "plans.change": "/a/{account}/plans/changes/{plan_change}",
    "plans.undo": "/a/{account}/plans/changes/{plan_change}/undo",
    "phone.list": "/a/{account}/phone/",
    "phone.number": "/a/{account}/phone/numbers/{phone}",
    "phone.calls": "/a/{account}/phone/calls",
    "phone.calls_csv": "/a/{account}/phone/calls/csv",
    "phone.number_post": "/a/{account}/phone/numbers/{phone}",
    "plans.pause": "/a/{account}/plans/pause",
    "plans.pause_post": "/a/{account}/plans/pause",
    "plans.pause_detail": "/a/{account}/plans/pause/{pause}",
    "plans.pause_undo": "/a/{account}/plans/pause/{pause}/undo",
    "plans.pause_end": "/a/{account}/plans/pause/{pause}/end",
    "plans.pause_end_post": "/a/{account}/plans/pause/{pause}/end",
    "plans.move": "/a/{account}/plans/move",
    "plans.move_post": "/a/{account}/plans/move",
    "plans.move_detail": "/a/{account}/plans/move/{move}",
    "plans.move_withdraw": "/a/{account}/plans/move/{move}/withdraw",
    "people.person_list": "/a/{account}/people",
    "people.invite": "/a/{account}/people/invite",
    "people.invite_post": "/a/{account}/people/invite",
    "people.invitation_withdraw": "/a/{account}/people/invitations/{invitation}/withdraw",
    "people.person": "/a/{account}/people/{sharer}",
    "people.person_post": "/a/{account}/people/{sharer}",
    "people.person_remove_page": "/a/{account}/people/{sharer}/remove",
    "people.person_remove": "/a/{account}/people/{sharer}/remove",
    "people.invitation": "/invitation/nothing",
    "people.invitation_post": "/invitation/nothing",
    "people.invitation_strength": "/invitation/nothing/strength",
    "people.invitation_accept": "/invitation/nothing/accept",
    "settings.index": "/settings/",
    "settings.name": "/settings/name",
    "settings.name_post": "/settings/name",
    "settings.language": "/settings/language",
    "settings.language_post": "/settings/language",
    "settings.time_zone": "/settings/time-zone",
    "settings.time_zone_post": "/settings/time-zone",
    "settings.messages": "/settings/messages",
    "settings.messages_post": "/settings/messages",
    "settings.password": "/settings/password",
    "settings.password_post": "/settings/password",
    "settings.password_strength": "/settings/password/strength",
    "settings.contacts": "/settings/contacts",
    "settings.contact_add": "/settings/contacts/add/email",
    "settings.contact_add_post": "/settings/contacts/add/email",
    "settings.contact_replace": "/settings/contacts/{contact}/replace",
    "settings.contact_replace_post": "/settings/contacts/{contact}/replace",
    "settings.contact_remove": "/settings/contacts/{contact}/remove",
    "settings.contact_remove_post": "/settings/contacts/{contact}/remove",
    "settings.contact_code": "/settings/contacts/changes/{change}",
    "settings.contact_code_post": "/settings/contacts/changes/{change}",
    "settings.contact_send_again": "/settings/contacts/changes/{change}/again",
    "settings.contact_withdraw": "/settings/contacts/changes/{change}/withdraw",
    "settings.sessions": "/settings/sessions",
    "settings.session_end": "/settings/sessions/{session}/end",
    "settings.device_distrust": "/settings/sessions/devices/{device}/distrust",
    "settings.sessions_end_others": "/settings/sessions/end-others",
    "settings.data": "/settings/data",
    "settings.data_post": "/settings/data",
    "settings.data_file": "/settings/data/everything",
    "settings.close": "/settings/close",
    "settings.address": "/settings/address",
    "settings.address_post": "/settings/address",
    "billing.overview": "/a/{account}/billing/",
    "billing.invoice_list": "/a/{account}/billing/invoices/",
    "billing.invoice_detail": "/a/{account}/billing/invoices/{invoice}",
    "billing.invoice_pdf": "/a/{account}/billing/invoices/{invoice}/pdf",
    "billing.invoice_csv": "/a/{account}/billing/invoices/{invoice}/csv",
    "billing.account_statement": "/a/{account}/billing/statement",
    "billing.account_statement_pdf": "/a/{account}/billing/statement/pdf",
    "billing.account_statement_csv": "/a/{account}/billing/statement/csv",
    "billing.spending": "/a/{account}/billing/spending",
    "billing.payment_list": "/a/{account}/billing/payments/",
    "billing.payment_detail": "/a/{account}/billing/payments/{payment}",
    "billing.pay": "/a/{account}/billing/pay",
    "billing.pay_start": "/a/{account}/billing/pay",
    "billing.payment_continue": "/a/{account}/billing/payments/{payment}/continue",
    "billing.payment_cancel": "/a/{account}/billing/payments/{payment}/cancel",
    "billing.methods.method_list": "/a/{account}/billing/methods/",
    "billing.methods.method_add_page": "/a/{account}/billing/methods/add",
    "billing.methods.method_add": "/a/{account}/billing/methods/add",
    "billing.methods.method_detail": "/a/{account}/billing/methods/{method}",
    "billing.methods.method_rename": "/a/{account}/billing/methods/{method}",
    "billing.methods.method_prefer": "/a/{account}/billing/methods/{method}/default",
    "billing.methods.method_remove_page": "/a/{account}/billing/methods/{method}/remove",
    "billing.methods.method_remove": "/a/{account}/billing/methods/{method}/remove",
    "billing.method_return": "/methods/{method}/return",
    "billing.planned.planned_detail": "/a/{account}/billing/planned/{planned}",
    "billing.planned.schedule": "/a/{account}/billing/schedule",
    "billing.planned.schedule_post": "/a/{account}/billing/schedule",
    "billing.planned.change": "/a/{account}/billing/planned/{planned}/change",
    "billing.planned.change_post": "/a/{account}/billing/planned/{planned}/change",
    "billing.planned.planned_cancel": "/a/{account}/billing/planned/{planned}/cancel",
    "billing.planned.planned_try": "/a/{account}/billing/planned/{planned}/try",
    "billing.planned.planned_pay": "/a/{account}/billing/planned/{planned}/pay",
    "billing.planned.planned_skip": "/a/{account}/billing/planned/{planned}/skip",
    "billing.planned.autopay": "/a/{account}/billing/autopay",
    "billing.planned.autopay_post": "/a/{account}/billing/autopay",
    "billing.planned.autopay_off": "/a/{account}/billing/autopay/off",
    "billing.planned.arrangement": "/a/{account}/billing/arrangement",
    "billing.planned.arrangement_post": "/a/{account}/billing/arrangement",
    "billing.planned.arrangement_end": "/a/{account}/billing/arrangement/end",
    "billing.ways.how_to_pay": "/a/{account}/billing/how-to-pay",
    "billing.ways.credit_move": "/a/{account}/billing/credit",
    "billing.ways.credit_move_post": "/a/{account}/billing/credit",
    "billing.vouchers.redeem": "/a/{account}/billing/voucher",
    "billing.vouchers.redeem_post": "/a/{account}/billing/voucher",
    "billing.disputes.dispute_new": "/a/{account}/billing/invoices/{invoice}/dispute",
    "billing.disputes.dispute_open": "/a/{account}/billing/invoices/{invoice}/dispute",
    "billing.disputes.dispute_list": "/a/{account}/billing/disputes/",
    "billing.disputes.dispute": "/a/{account}/billing/disputes/{dispute}",
    "billing.disputes.dispute_write": "/a/{account}/billing/disputes/{dispute}",
    "billing.disputes.dispute_withdraw": "/a/{account}/billing/disputes/{dispute}/withdraw",
    "billing.payment_return": "/pay/{payment}/return",
    "api.payment_notice": "/webhooks/payments/sandbox",
    "api.accounting": "/accounting/radius",
    "staff.join": "/staff/join/nothing",
    "staff.join_post": "/staff/join/nothing",
    "staff.join_strength": "/staff/join/nothing/strength",
    "staff.search": "/staff/",
    "staff.account": "/staff/accounts/{account}",
    "staff.call": "/staff/accounts/{account}/call",
    "staff.call_send": "/staff/accounts/{account}/call",
    "staff.call_check": "/staff/accounts/{account}/call/check",
    "staff.unpaid": "/staff/accounts/{account}/unpaid",
    "staff.unpaid_rest": "/staff/accounts/{account}/unpaid",
    "staff.unpaid_rest_end": "/staff/accounts/{account}/unpaid/{rest}/end",
    "staff.unpaid_group": "/staff/accounts/{account}/unpaid/group",
    "staff.person": "/staff/accounts/{account}/people/{person}",
    "staff.unlock": "/staff/accounts/{account}/people/{person}/unlock",
    "staff.end_sessions": "/staff/accounts/{account}/people/{person}/end-sessions",
    "staff.view": "/staff/accounts/{account}/people/{person}/view",
    "staff.view_begin": "/staff/accounts/{account}/people/{person}/view",
    "staff.view_end": "/staff/view/end",
    "staff.reset": "/staff/accounts/{account}/people/{person}/reset",
    "staff.resets": "/staff/lost-factors",
    "staff.reset_proof": "/staff/lost-factors/{reset}/proof",
    "staff.reset_proof_post": "/staff/lost-factors/{reset}/proof",
    "staff.reset_approve": "/staff/lost-factors/{reset}/approve",
    "staff.reset_refuse": "/staff/lost-factors/{reset}/refuse",
    "staff.plan_changes": "/staff/plan-changes",
    "staff.plan_change": "/staff/plan-changes/{plan_change}",
    "staff.plan_change_accept": "/staff/plan-changes/{plan_change}/accept",
    "staff.plan_change_refuse": "/staff/plan-changes/{plan_change}/refuse",
    "staff.phone.calls": "/staff/calls",
    "staff.phone.calls_take": "/staff/calls",
    "staff.phone.call_import": "/staff/calls/{call_file}",
    "staff.phone.call_refused": "/staff/calls/{call_file}/csv",
    "staff.phone.list": "/staff/phone",
    "staff.phone.account": "/staff/accounts/{account}/phone",
    "staff.phone.give": "/staff/accounts/{account}/phone",
    "staff.phone.confirm": "/staff/phone/{phone}/done",
    "staff.phone.try_again": "/staff/phone/{phone}/again",
    "staff.phone.take_back": "/staff/phone/{phone}/take-back",
    "staff.move": "/staff/moves/{move}",
    "staff.move_accept": "/staff/moves/{move}/accept",
    "staff.move_refuse": "/staff/moves/{move}/refuse",
    "staff.letters": "/staff/letters",
    "staff.letter_print": "/staff/letters/{letter}/print",
    "staff.bill_runs.list": "/staff/bill-runs/",
    "staff.bill_runs.preview": "/staff/bill-runs/",
    "staff.bill_runs.run": "/staff/bill-runs/{bill_run}",
    "staff.bill_runs.start": "/staff/bill-runs/{bill_run}",
    "staff.bill_runs.stop": "/staff/bill-runs/{bill_run}/stop",
    "staff.reports.list": "/staff/reports/",
    "staff.reports.journal": "/staff/reports/journal",
    "staff.reports.journal_file": "/staff/reports/journal/csv",
    "staff.reports.report": "/staff/reports/tax",
    "staff.reports.report_csv": "/staff/reports/tax/csv",
    "staff.money.account": "/staff/accounts/{account}/money",
    "staff.money.take": "/staff/accounts/{account}/payments/new",
    "staff.money.take_post": "/staff/accounts/{account}/payments/new",
    "staff.money.receipt": "/staff/accounts/{account}/payments/{payment}/receipt",
    "staff.money.refund": "/staff/accounts/{account}/refund",
    "staff.money.payment": "/staff/accounts/{account}/payments/{payment}",
    "staff.money.payment_refund": "/staff/accounts/{account}/payments/{payment}",
    "staff.money.credit": "/staff/accounts/{account}/credit",
    "staff.money.credit_post": "/staff/accounts/{account}/credit",
    "staff.money.charge": "/staff/accounts/{account}/charge",
    "staff.money.charge_post": "/staff/accounts/{account}/charge",
    "staff.money.charge_cancel": "/staff/accounts/{account}/charges/{charge}/cancel",
    "staff.money.invoice": "/staff/accounts/{account}/invoices/{invoice}",
    "staff.money.invoice_credit": "/staff/accounts/{account}/invoices/{invoice}",
    "staff.money.invoice_send": "/staff/accounts/{account}/invoices/{invoice}/send",
    "staff.money.exemption_list": "/staff/accounts/{account}/exemptions",
    "staff.money.exemption_add": "/staff/accounts/{account}/exemptions",
    "staff.money.exemption": "/staff/accounts/{account}/exemptions/STATE",
    "staff.money.exemption_end": "/staff/accounts/{account}/exemptions/STATE",
    "staff.money.approvals": "/staff/approvals",
    "staff.money.approval": "/staff/approvals/{adjustment}",
    "staff.money.approval_post": "/staff/approvals/{adjustment}",
    "staff.money.bank_line_list": "/staff/bank-lines",
    "staff.money.bank_line": "/staff/bank-lines/{line}",
    "staff.money.bank_line_post": "/staff/bank-lines/{line}",
    "staff.money.disputes": "/staff/disputes",
    "staff.money.dispute": "/staff/disputes/{dispute}",
    "staff.money.dispute_post": "/staff/disputes/{dispute}",
    "staff.prices.list": "/staff/prices/",
    "staff.prices.plan": "/staff/prices/VOICE-HOME",
    "staff.prices.plan_post": "/staff/prices/VOICE-HOME",
    "staff.prices.offering": "/staff/prices/VOICE-HOME/offering",
    "staff.prices.offering_post": "/staff/prices/VOICE-HOME/offering",
    "staff.prices.withdraw": "/staff/prices/TV-BASIC/withdraw/someprice",
    "staff.prices.withdraw_post": "/staff/prices/TV-BASIC/withdraw/someprice",
    "staff.money.vouchers": "/staff/vouchers",
    "staff.money.voucher_make": "/staff/vouchers",
    "staff.money.voucher_batch": "/staff/vouchers/{batch}",
    "staff.money.voucher_cancel": "/staff/vouchers/{batch}",
    "staff.members": "/staff/members",
    "staff.member_add": "/staff/members",
    "staff.member": "/staff/members/{member}",
    "staff.member_change": "/staff/members/{member}",
    # What takes an account or the session away comes last.
    "people.leave": "/settings/leave/{account}",
    "people.leave_post": "/settings/leave/{account}",
    "activity.not_me_post": "/activity/not-me/{event}",
    "settings.close_post": "/settings/close",
}

LETTER = b"To: alice@example.net\r\nSubject: A message\r\n\r\nHello\r\n"


def prepare(portal: Portal) -> None:
    """Give mallory a payment, the mailbox a message and staff letters to print: every kind of thing
    exists twice."""
    store = SandboxStore(":memory:", clock=clock.now, salt="crawl", has_notices=False)
    with portal.app.app_context():
        world.pay_all(portal.world, "mallory", SandboxInProcess(store), store, key="mallory-paid")
        unit_of_work(lambda session: _add_own_things(session, portal))
        unit_of_work(lambda session: add_money(session, portal.world))
        unit_of_work(lambda session: add_usage(session, ("alice", "mallory"), days=3))
        unit_of_work(lambda session: add_plans(session, portal.world))
        unit_of_work(lambda session: add_phones(session, portal.world))
    store.close()
    (portal.settings.data / "mailbox" / "a-message.eml").write_bytes(LETTER)
    with portal.app.app_context():
        for name in ("alice", "mallory"):
            ask_for_letter(portal, name)


def ask_for_letter(portal: Portal, name: str) -> int:
    """Let somebody unknown ask for a letter to the account of `name`, `<name>letter`; the id of
    their flow."""
    return unit_of_work(lambda session: add_letter(session, name, portal.world.accounts[name]))


def add_letter(session: Session, name: str, account_id: int) -> int:
    flows.begin(
        session,
        FlowKind.REGISTER,
        "post",
        subject=f"letter of {name}".encode(),
        lasts=timedelta(days=21),
        account_id=account_id,
    )
    flow_id = session.scalars(select(Flow.id).where(Flow.account_id == account_id)).one()
    contact_id = session.scalars(
        select(Contact.id).where(Contact.account_id == account_id, Contact.kind == "postal")
    ).one()
    session.add(
        PostalLetter(
            public_id=f"{name}letter",
            account_id=account_id,
            flow_id=flow_id,
            contact_id=contact_id,
            asked_at=clock.now(),
        )
    )
    return flow_id


def stamp(happened_at: datetime | str) -> str:
    """How an event of this instant, as the database gives it, stands in an address."""
    if isinstance(happened_at, str):
        happened_at = datetime.fromisoformat(happened_at).replace(tzinfo=UTC)
    return stamp_of(happened_at)


def _add_price(session: Session) -> None:
    tv = session.scalars(select(Plan).where(Plan.code == "TV-BASIC")).one()
    change = PriceChange(
        public_id="someprice",
        plan_id=tv.id,
        from_on=clock.now().date() + timedelta(days=60),
        was_minor=tv.price_minor,
        price_minor=tv.price_minor + 300,
        existing=Existing.KEEP.value,
        state="planned",
        created_at=clock.now(),
        tell_on=clock.now().date(),
    )
    session.add(change)
    tv.price_steps = [planning.step_of(change).stored()]


def add_money(session: Session, made: world.World) -> None:
    """Of each owner a charge that waits, a credit over the limit, a bank transfer that nobody has
    matched, a tax that is not paid, and a disputed line; a batch of vouchers, a run of the bills,
    and another price of a plan, which those who have it do not pay."""
    files = BankImport(
        public_id="bankfile",
        file_hash=b"f" * 32,
        file_name="june.xml",
        imported_at=clock.now(),
        line_count=2,
    )
    session.add(files)
    session.add(
        VoucherBatch(
            public_id="vouchers",
            name="Mill Street",
            amount_minor=2000,
            currency="USD",
            voucher_count=10,
            made_at=clock.now(),
        )
    )
    session.add(
        BillRun(
            public_id="somebillrun",
            as_of_on=clock.now().date(),
            state="done",
            is_preview=True,
            found={},
            started_at=clock.now(),
            beat_at=clock.now(),
        )
    )
    _add_price(session)
    session.flush()
    for name in ("alice", "mallory"):
        account_id = made.accounts[name]
        of_account = {"account_id": account_id, "created_at": clock.now()}
        session.add(
            Charge(
                public_id=f"{name}charge",
                is_credit=False,
                description="Visit",
                amount_minor=4000,
                **of_account,
            )
        )
        session.add(
            Adjustment(
                public_id=f"{name}credit",
                key=f"{name}-credit",
                is_credit=True,
                amount_minor=50_000,
                reason="A long outage",
                state="asked",
                asked_by_id=made.customers["ben"],
                **of_account,
            )
        )
        session.add(
            TaxExemption(
                account_id=account_id,
                tax_code="STATE",
                from_on=clock.now().date() - timedelta(days=30),
                reason=f"C-77 {world.CANARY}",
            )
        )
        session.add(
            BankLine(
                public_id=f"{name}line",
                import_id=files.id,
                key=f"{name}-line",
                booked_on=clock.now().date(),
                amount_minor=1234,
                currency="USD",
                payer=world.CANARY,
                reference="rent",
                state="proposed",
                account_id=account_id,
            )
        )
        dispute = Dispute(
            public_id=f"{name}dispute",
            customer_id=made.customers[name],
            invoice_id=session.scalars(
                select(Invoice.id).where(Invoice.account_id == account_id).order_by(Invoice.id)
            ).first(),
            position=1,
            amount_minor=6500,
            state="open",
            **of_account,
        )
        session.add(dispute)
        session.flush()
        session.add(
            DisputePost(
                dispute_id=dispute.id,
                author_id=made.customers[name],
                is_staff=False,
                body=f"It was off. {world.CANARY}",
                posted_at=clock.now(),
            )
        )


SELLS_DATA = {
    "data_included_bytes": 900 * 10**9,
    "overage_minor": 1000,
    "overage_bytes": 50 * 10**9,
    "top_up_bytes": 50 * 10**9,
    "top_up_minor": 800,
}


def add_usage(session: Session, names: Iterable[str], days: int) -> None:
    """What the lines of these accounts carried on so many days until today, and a connection for
    each; of the last 35 days also hour by hour. Their plans have a limit, and more data is sold."""
    today = clock.today("America/Los_Angeles")
    session.execute(
        update(Plan)
        .where(Plan.kind == PlanKind.INTERNET.value, Plan.data_included_bytes.is_(None))
        .values(SELLS_DATA)
    )
    nas = Nas(name="10.0.0.1", heard_at=clock.now())
    session.add_all([nas, UsageSource(name="network", read_at=clock.now())])
    session.flush()
    lines = session.execute(
        select(Line.id, Line.username)
        .join(Account, Account.id == Line.account_id)
        .where(Account.public_id.in_([f"{name}account00" for name in names]))
    ).all()
    for line in lines:
        session.execute(
            insert(UsageDay),
            [_day_of(line.id, line.username, today, number) for number in range(days)],
        )
        session.execute(
            insert(UsageSession),
            [_session_of(line.id, nas.id, number) for number in range(min(days, 100))],
        )


def _day_of(line_id: int, username: str, today: date, ago: int) -> dict[str, Any]:
    day_on = today - timedelta(days=ago)
    up, down = simulated_traffic.of_day(username, day_on)
    parts = [simulated_traffic.by_hour(amount, 24) for amount in (up, down)]
    return {
        "line_id": line_id,
        "day_on": day_on,
        "up_bytes": up,
        "down_bytes": down,
        "hours": [part for pair in zip(*parts, strict=True) for part in pair] if ago < 35 else None,
    }


def _session_of(line_id: int, nas_id: int, ago: int) -> dict[str, Any]:
    ended_at = clock.now() - timedelta(days=ago)
    return {
        "line_id": line_id,
        "nas_id": nas_id,
        "session": f"{line_id:04X}{ago:04X}",
        "started_at": ended_at - timedelta(hours=23),
        "counted_at": ended_at,
        "counted_seconds": 23 * 3600,
        "seen_at": ended_at,
        "ended_at": ended_at if ago else None,
        "up_bytes": 10**9 + ago,
        "down_bytes": 7 * 10**9 + ago,
        "interval_seconds": 900,
        "address": f"100.64.0.{ago}",
        "device": "02:00:5e:00:53:01",
        "cause": "",
    }


def add_plans(session: Session, made: world.World) -> None:
    """More plans, and of each owner one that staff are asked for, a pause that is over, a move."""
    shop.stock(session)
    shop.offer_pauses(session)
    session.execute(update(Isp).values(frn="0031234567", revision=Isp.revision + 1))
    session.flush()
    kids = session.scalars(select(Plan).where(Plan.code == "TV-KIDS")).one()
    for name in ("alice", "mallory"):
        session.add(pause_of(made, name, "pause", "done", ago=60))
        session.add(
            Move(
                public_id=f"{name}move",
                account_id=made.accounts[name],
                customer_id=made.customers[name],
                address={"street": "2 Oak St", "city": "Alder Falls", "country": "US"},
                wished_on=clock.now().date() + timedelta(days=20),
                note="The house at the bridge",
                state="asked",
                created_at=clock.now(),
            )
        )
        session.add(
            PlanChange(
                public_id=f"{name}wish",
                account_id=made.accounts[name],
                customer_id=made.customers[name],
                to_plan_id=kids.id,
                effective_on=clock.now().date() + timedelta(days=9),
                state="asked",
                quote={
                    "bill_on": "2026-07-01",
                    "total_minor": 11_000,
                    "total_before_minor": 10_000,
                    "monthly_minor": 11_000,
                    "monthly_before_minor": 10_000,
                    "currency": "USD",
                    "lines": [["Kids", 700]],
                    "terms": quoting.terms_of(kids, clock.now().date()),
                },
                created_at=clock.now(),
            )
        )


def add_calls(session: Session, made: world.World, count: int) -> None:
    """So many calls of each number, some each day until now; every other one costs money. And the
    file that they came in, of which a row was refused."""
    file = CallImport(
        public_id="callfile",
        file_name="june.csv",
        imported_by_id=made.customers["ben"],
        imported_at=clock.now(),
        ended_at=clock.now(),
        kept_count=count * len(PHONES),
        known_count=0,
        refused_count=1,
        columns=["line", "column", "reason", "number"],
        refused=[["7", "number", f"no number {world.CANARY}", "=1+1"]],
    )
    session.add(file)
    session.flush()
    for name in PHONES:
        charge = Charge(
            public_id=f"{name}calls",
            account_id=made.accounts[name],
            is_credit=False,
            kind=PlanKind.PHONE.value,
            description="Calls",
            amount_minor=35 * (count // 2),
            created_at=clock.now(),
        )
        session.add(charge)
        session.flush()
        number_id = session.scalars(
            select(PhoneNumber.id).where(PhoneNumber.public_id == f"{name}phone")
        ).one()
        session.add_all(
            _call_of(name, made.accounts[name], number_id, file.id, charge.id, number)
            for number in range(count)
        )


def _call_of(
    name: str, account_id: int, number_id: int, file_id: int, charge_id: int, ago: int
) -> CallRecord:
    costs = ago % 2
    started_at = clock.now() - timedelta(hours=8 * ago + 1)
    return CallRecord(
        key=f"{name} {ago}",
        content_key=f"{name} {ago}",
        account_id=account_id,
        number_id=number_id,
        import_id=file_id,
        is_out=bool(costs),
        other="+442079460958" if costs else ("" if ago % 4 else "+15414166117"),
        started_at=started_at,
        seconds=65 + ago,
        amount_minor=35 * costs,
        month_on=clock.day_of(started_at, "America/Los_Angeles").replace(day=1),
        charge_id=charge_id if costs else None,
    )


PHONES = {"alice": "+15415550171", "mallory": "+15415550172"}


def add_phones(session: Session, made: world.World) -> None:
    """Of each owner a number whose plan includes everything, and which the switch is behind with.
    The plan of the third account waits for a number."""
    session.execute(
        update(Plan)
        .where(Plan.kind == PlanKind.PHONE.value)
        .values(features=[feature.value for feature in Feature])
    )
    for name, number in PHONES.items():
        session.add(
            PhoneNumber(
                public_id=f"{name}phone",
                account_id=made.accounts[name],
                subscription_id=session.scalars(
                    select(Subscription.id).where(Subscription.public_id == f"{name}sub3")
                ).one(),
                number=number,
                from_on=date(2025, 1, 1),
                wanted=NumberSettings(
                    frozenset({Feature.VOICEMAIL, Feature.DO_NOT_DISTURB}),
                    quiet_from="22:00",
                    quiet_until="07:00",
                ).as_facts(),
                reached=NumberSettings(frozenset({Feature.VOICEMAIL})).as_facts(),
                pending_at=clock.now() - timedelta(hours=1),
                sync_at=clock.now() + timedelta(minutes=5),
                sync_count=2,
                sync_failure="no answer from 192.0.2.5",
            )
        )
    session.flush()
    add_calls(session, made, 4)


def pause_of(made: world.World, name: str, word: str, state: str, ago: int) -> Pause:
    """A pause of ten days that began so many days ago, with the public id `<name><word>`."""
    from_on = clock.today("America/Los_Angeles") - timedelta(days=ago)
    until_on = from_on + timedelta(days=10)
    return Pause(
        public_id=f"{name}{word}",
        account_id=made.accounts[name],
        customer_id=made.customers[name],
        from_on=from_on,
        until_on=until_on,
        counts_until_on=until_on,
        kinds=["internet", "tv"],
        is_prolonging=False,
        state=state,
        quote={
            "bill_on": "2026-07-01",
            "total_minor": 9_000,
            "saved_minor": 2_000,
            "currency": "USD",
            "lines": [["Fiber 300", 4500]],
            "resting": ["Fiber 300", "Local TV"],
        },
        created_at=clock.now() - timedelta(days=ago),
    )


def _add_own_things(session: Session, portal: Portal) -> None:
    """A contact of each owner's that waits for its code, another session and a trusted device; and
    that they and bob have lost their factors, of whom one waits for a second member of staff; and
    that what they owe is left alone for a while."""
    for name, prover in (("alice", None), ("mallory", None), ("bob", "sue")):
        session.add(
            FactorReset(
                public_id=f"{name}reset",
                customer_id=portal.world.customers[name],
                state="asked" if prover is None else "proofed",
                proofed_by_id=None if prover is None else portal.world.customers[prover],
                asked_at=clock.now(),
            )
        )
    for name in ("alice", "mallory"):
        session.add(
            PaymentMethod(
                public_id=f"{name}method",
                key=f"{name}-method",
                account_id=portal.world.accounts[name],
                customer_id=portal.world.customers[name],
                gateway="sandbox",
                gateway_reference=f"pm_{name}",
                title="Visa ending 4242",
                state="usable",
                created_at=clock.now(),
            )
        )
        session.flush()
        session.add(
            PlannedPayment(
                public_id=f"{name}planned",
                kind="scheduled",
                account_id=portal.world.accounts[name],
                customer_id=portal.world.customers[name],
                method_id=session.scalars(
                    select(PaymentMethod.id).where(PaymentMethod.public_id == f"{name}method")
                ).one(),
                amount_minor=1_000,
                due_on=clock.now().date() + timedelta(days=7),
                state="waiting",
                created_at=clock.now(),
            )
        )
        session.add(
            DunningRest(
                public_id=f"{name}rest00",
                account_id=portal.world.accounts[name],
                until_on=clock.today("America/Los_Angeles") + timedelta(days=9),
                reason="promised on the phone",
                made_by_id=portal.world.customers["ben"],
                made_at=clock.now(),
            )
        )
        session.add(
            ContactChange(
                public_id=f"{name}change00",
                customer_id=portal.world.customers[name],
                account_id=portal.world.accounts[name],
                kind="email",
                value=f"new-{name}@example.net",
                asked_at=clock.now(),
                expires_at=clock.now() + timedelta(hours=24),
            )
        )
        sessions.open_session_row(
            session,
            session.get_one(Customer, portal.world.customers[name]),
            is_own_device=False,
            address="192.0.2.7",
            user_agent="",
            replaces_token=None,
        )
        session.add(
            Invitation(
                public_id=f"{name}invitation",
                account_id=portal.world.accounts[name],
                invited_by_id=portal.world.customers[name],
                role="viewer",
                kind="email",
                value=f"guest-{name}@example.net",
                token_hash=hash_token(f"invite-{name}"),
                created_at=clock.now(),
                expires_at=clock.now() + timedelta(days=7),
            )
        )
        customer_id = portal.world.customers[name]
        at = clock.now() - timedelta(days=customer_id)
        event = activity.Event("name_changed", at, customer_id=customer_id)
        activity.record(session, [event])
        session.add(
            Device(
                token_hash=name.encode().ljust(32),
                customer_id=portal.world.customers[name],
                first_seen_at=clock.now(),
                last_seen_at=clock.now(),
                trusted_until_at=clock.now() + timedelta(days=30),
            )
        )


def ids(portal: Portal, account: str = "alice") -> dict[str, str]:
    """The public ids of an account and of the first of its invoices and payments."""
    account_id = portal.world.accounts[account]
    found = {
        "account": portal.world.public_ids[account],
        "person": f"{account}customer",
        "member": "bencustomer",
        "charge": f"{account}charge",
        "adjustment": f"{account}credit",
        "line": f"{account}line",
        "dispute": f"{account}dispute",
        "batch": "vouchers",
        "subscription": f"{account}sub1",
        "package": f"{account}sub3",
        "plan_change": f"{account}wish",
        "phone": f"{account}phone",
        "call_file": "callfile",
        "pause": f"{account}pause",
        "move": f"{account}move",
        "letter": f"{account}letter",
        "reset": f"{account}reset",
        "method": f"{account}method",
        "planned": f"{account}planned",
        "bill_run": "somebillrun",
        "rest": f"{account}rest00",
    }
    for kind in ("invoice", "payment"):
        rows = portal.rows(
            f"SELECT public_id FROM {kind}s WHERE account_id = :id ORDER BY id LIMIT 1",
            id=account_id,
        )
        found[kind] = rows[0][0] if rows else "none"
    [(contact_id,)] = portal.rows(
        "SELECT id FROM contacts WHERE account_id = :id AND kind = 'email'", id=account_id
    )
    found["contact"] = row_names.of(portal.settings.secret, "contact", contact_id)
    found["change"] = f"{account}change00"
    found["invitation"] = f"{account}invitation"
    found["sharer"] = "veracustomer" if account == "alice" else f"{account}customer"
    rows = portal.rows(
        "SELECT happened_at FROM activity WHERE customer_id = :id AND account_id IS NULL"
        " ORDER BY id LIMIT 1",
        id=portal.world.customers[account],
    )
    found["event"] = stamp(rows[0][0]) if rows else "0"
    for kind in ("session", "device"):
        rows = portal.rows(
            f"SELECT id FROM {kind}s WHERE customer_id = :id ORDER BY id LIMIT 1",
            id=portal.world.customers[account],
        )
        found[kind] = row_names.of(portal.settings.secret, kind, rows[0][0]) if rows else "none"
    return found


OWN_THINGS = {
    endpoint
    for endpoint, path in _PATHS.items()
    if not path.startswith("/a/")
    and any(f"{{{kind}}}" in path for kind in ("contact", "change", "session", "device", "event"))
}
"""What belongs to a customer, not to an account: for all others it does not exist."""
OWN_METHODS = {
    endpoint for endpoint, path in _PATHS.items() if path.startswith("/a/") and "{method}" in path
}
"""What one of the customers of an account has saved: the others do not see it."""
THREADS = {"billing.disputes.dispute"}
"""There is none before somebody disputes a bill."""
PLANS = {endpoint for endpoint, path in _PATHS.items() if "{planned}" in path}
OWN_PLANS = PLANS - {"billing.planned.planned_detail"}
"""What is changed of a payment that one of them has planned: the others only see it."""


def addresses(portal: Portal, owner: str = "alice", **other: str) -> dict[str, str]:
    """A path for each endpoint, with the ids of the account of `owner` or the `other` ones."""
    values = ids(portal, owner) | other
    return {endpoint: path.format(**values) for endpoint, path in _PATHS.items()}


def methods_of(app: Flask) -> dict[str, set[str]]:
    return {rule.endpoint: set(rule.methods or ()) for rule in app.url_map.iter_rules()}


def list_gets(portal: Portal, account: str = "alice") -> dict[str, str]:
    """The endpoints that can be read, with their paths."""
    methods = methods_of(portal.app)
    return {
        endpoint: path
        for endpoint, path in addresses(portal, account).items()
        if "GET" in methods[endpoint]
    }


def list_posts(portal: Portal, account: str = "alice") -> dict[str, str]:
    """The endpoints that change something, with their paths."""
    methods = methods_of(portal.app)
    return {
        endpoint: path
        for endpoint, path in addresses(portal, account).items()
        if methods[endpoint] - set(SAFE_METHODS)
    }


def decision(response: TestResponse) -> str:
    """What the gate decided, whatever form its answer has."""
    leads_to = response.headers.get("Location") or response.headers.get("HX-Redirect") or ""
    if leads_to.split("?")[0] == "/sign-in":
        return "sign in"
    if leads_to in [f"{path}?done=ended" for path in FIRST_PAGES.values()]:
        return "begin anew"
    return {403: "forbidden", 404: "absent", 405: "no such method"}.get(
        response.status_code, "allowed"
    )


def send(visitor: Visitor, method: str, path: str, **more: Any) -> TestResponse:
    return visitor.client.open(path, base_url=BASE, method=method, **more)


def token_of(visitor: Visitor) -> dict[str, str]:
    """Token and key of a page that the signed-in visitor may open."""
    page = visitor.get("/accounts")
    values = page.form("/sign-out")[1]
    return {name: values[name] for name in ("csrf_token", "form_key")}


def dump(app: Flask, *, without: tuple[str, ...] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table; `without` names columns like `sessions.last_used_at`."""
    with app.app_context(), reading() as session:
        return {
            table.name: [
                tuple(row)
                for row in session.execute(
                    select(
                        *(
                            column
                            for column in table.columns
                            if f"{table.name}.{column.name}" not in without
                        )
                    ).order_by(*table.primary_key.columns)
                )
            ]
            for table in Base.metadata.sorted_tables
        }


def changes(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> set[str]:
    """The names of the tables that differ."""
    return {name for name, rows in before.items() if rows != after[name]}


def watch(app: Flask) -> Callable[[], set[str]]:
    """Remember the whole database; the result tells which tables differ since, last use apart."""
    kept = ("sessions.last_used_at",)
    before = dump(app, without=kept)
    return lambda: changes(before, dump(app, without=kept))


@contextmanager
def another_app(portal: Portal, **changed: Any) -> Iterator[Flask]:
    """The application with other settings on the same world."""
    app = create_app(replace(portal.settings, **changed))
    try:
        yield app
    finally:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()
