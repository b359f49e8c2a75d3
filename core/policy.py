"""Who may use which route, in one table: what the gate in core/access.py asks.

A route that is missing from POLICY fails the start of the portal. Roles say what a customer may do
on an account; anybody else's account looks exactly like one that does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum, auto

from flask import Flask

from models import FlowKind, Role, StaffRole

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Who(StrEnum):
    EVERYONE = "everyone"
    CUSTOMER = "customer"
    ACCOUNT = "account"
    FLOW = "flow"  # a way in that is half gone, by its own cookie
    STAFF = "staff"  # the ISP's own people, after their second factor
    OPERATOR = "operator"  # the programs of whoever runs the portal, by a token of its own


NOT_SIGNED_IN = frozenset({Who.EVERYONE, Who.OPERATOR})


class Proof(StrEnum):
    """What an unsafe request must carry to show that our own page sent it."""

    TOKEN = auto()  # the session's CSRF token
    STRICT_COOKIE = auto()  # before sign-in: the cookie every such page sets
    OWN = auto()  # its own: a gateway's signature, or asking the gateway


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a route. `roles` count for `Who.ACCOUNT`, `staff` for `Who.STAFF`, `flow` for
    `Who.FLOW`.

    `is_kept`: an own device may keep the page, which depends on nothing but the revisions of
    account, customer and ISP. `stays_open` during maintenance: what writes nothing, the pages of
    staff, and their way in; `open_to_staff` stays so for them alone, for whoever is half-way signed
    in as one of them, and with `viewers_too` for those who see the portal as a customer does.
    `keeps_form`: the page that shows the form again when the session had expired. `get_writes`:
    what a GET changes, which is otherwise nothing. `greets`: a page open to everyone that whoever
    is signed in sees in the signed-in frame, with the way out (bar 29). `before_second_factor`:
    also for whoever has none where the ISP asks everyone for one. `viewers_too`: staff who see the
    portal as a customer does may send it; otherwise they write nothing (bar 35).
    """

    who: Who
    roles: frozenset[Role] = frozenset()
    proof: Proof = Proof.TOKEN
    is_kept: bool = False
    stays_open: bool = False
    open_to_staff: bool = False
    keeps_form: str = ""
    get_writes: str = ""
    greets: bool = False
    flow: FlowKind | None = None
    staff: frozenset[StaffRole] = frozenset()
    viewers_too: bool = False
    before_second_factor: bool = False

    @property
    def flow_kind(self) -> FlowKind:
        """Which way in it belongs to. Raises LookupError of a route that belongs to none."""
        if self.flow is None:
            raise LookupError("the route belongs to no flow")
        return self.flow

    @property
    def serves_staff(self) -> bool:
        """Whether staff use it also during maintenance, signed in or half-way."""
        return self.who is Who.STAFF or self.open_to_staff


EVERY_ROLE = frozenset(Role)
SEES_MONEY = frozenset({Role.OWNER, Role.PAYER, Role.VIEWER})
OWNS = frozenset({Role.OWNER})
PAYS = frozenset({Role.OWNER, Role.PAYER})
RUNS_LINE = frozenset({Role.OWNER, Role.TECHNICAL})
"""Who sees what is connected at home, and changes the router."""

EVERY_STAFF = frozenset(StaffRole)
ADMINISTRATORS = frozenset({StaffRole.ADMINISTRATOR})
HELPERS = frozenset({StaffRole.SUPPORT, StaffRole.ADMINISTRATOR})
"""Who helps people with signing in, and prints their letters."""
BILLERS = frozenset({StaffRole.BILLING, StaffRole.ADMINISTRATOR})
"""Who runs the bills, decides about money and reads what the books say of all accounts."""
CALL_TAKERS = HELPERS | {StaffRole.BILLING}
TECHNICIANS = frozenset({StaffRole.TECHNICAL, StaffRole.ADMINISTRATOR})
"""Who sets what the telephone switch does."""

_NOTED = "that it was read: data_accesses, activity"


def _staff(who: frozenset[StaffRole], get_writes: str = "", keeps_form: str = "") -> Rule:
    """A page of staff, which stays open during maintenance."""
    return Rule(Who.STAFF, staff=who, stays_open=True, get_writes=get_writes, keeps_form=keeps_form)


_PUBLIC = Rule(Who.EVERYONE, proof=Proof.STRICT_COOKIE)
_OPEN = Rule(Who.EVERYONE, proof=Proof.STRICT_COOKIE, stays_open=True)
_GREETS = Rule(Who.EVERYONE, proof=Proof.STRICT_COOKIE, is_kept=True, greets=True)
_READS_MONEY = Rule(Who.ACCOUNT, SEES_MONEY, is_kept=True)
_CHANGES_PAYMENT = Rule(Who.ACCOUNT, PAYS)
_OWN = Rule(Who.CUSTOMER)
_OWNS = Rule(Who.ACCOUNT, OWNS)
_SEES_LINE = Rule(Who.ACCOUNT, EVERY_ROLE)


def _sets(page: str) -> Rule:
    """What a customer changes about themselves, on `page`, which shows the form again."""
    return Rule(Who.CUSTOMER, keeps_form=page)


_SECOND_STEP = Rule(Who.FLOW, flow=FlowKind.SIGN_IN, open_to_staff=True)
_LOST_FACTORS = Rule(Who.FLOW, flow=FlowKind.LOST_FACTORS)
_ENROLS = Rule(Who.CUSTOMER, before_second_factor=True)
_CONFIRMS = replace(_ENROLS, open_to_staff=True)
_REGISTERS = Rule(Who.FLOW, flow=FlowKind.REGISTER)
_RECOVERS = Rule(Who.FLOW, flow=FlowKind.RECOVER)
_FINDS_ID = Rule(Who.FLOW, flow=FlowKind.FIND_ID)

FIRST_PAGES = {
    FlowKind.REGISTER: "/register",
    FlowKind.RECOVER: "/recover",
    FlowKind.FIND_ID: "/forgot-id",
    FlowKind.SIGN_IN: "/sign-in",
    FlowKind.LOST_FACTORS: "/sign-in",
}
"""Where each flow begins, and begins again when it has ended."""
STAFF_FIRST_PAGE = "/staff/sign-in"
"""Where staff get in while the portal is closed."""
ENROL_PAGE = "/settings/second-step"

POLICY: dict[str, Rule] = {
    "static": _OPEN,
    "health": _OPEN,
    "metrics": Rule(Who.OPERATOR, stays_open=True),
    "support.help": _GREETS,
    "support.broadband_facts": _GREETS,
    "support.broadband_facts_csv": _PUBLIC,
    "auth.sign_in": _PUBLIC,
    "auth.sign_in_post": _PUBLIC,
    # Whoever holds a view ends it there.
    "auth.staff_sign_in": replace(_OPEN, open_to_staff=True),
    # What it writes are counts of tries, and the sessions of staff.
    "auth.staff_sign_in_post": replace(_OPEN, open_to_staff=True),
    "auth.welcome": _PUBLIC,
    "auth.welcome_post": _PUBLIC,
    "auth.sign_out": Rule(Who.EVERYONE, proof=Proof.TOKEN, viewers_too=True, open_to_staff=True),
    "auth.confirm": _CONFIRMS,
    "auth.confirm_post": _CONFIRMS,
    "auth.confirm_passkey": _CONFIRMS,
    "auth.passkey_options": _PUBLIC,
    "auth.passkey_sign_in": _PUBLIC,
    "auth.second_step_page": _SECOND_STEP,
    "auth.second_step_post": _SECOND_STEP,
    "auth.second_step_passkey": _SECOND_STEP,
    "auth.second_step_send": _SECOND_STEP,
    "auth.enrol": _SECOND_STEP,
    "auth.enrol_post": _SECOND_STEP,
    "auth.enrol_app": _SECOND_STEP,
    "auth.enrol_passkey": _SECOND_STEP,
    "auth.lost_begin": Rule(Who.FLOW, flow=FlowKind.SIGN_IN),
    "auth.lost": _LOST_FACTORS,
    "auth.lost_post": _LOST_FACTORS,
    "auth.lost_send": _LOST_FACTORS,
    "auth.lost_ask": _LOST_FACTORS,
    "auth.factor_list": _ENROLS,
    "auth.factor_remove_page": _ENROLS,
    "auth.factor_remove": replace(_ENROLS, keeps_form="auth.factor_remove_page"),
    "auth.app_page": _ENROLS,
    "auth.app_start": _ENROLS,
    "auth.app_check": _ENROLS,
    "auth.app_check_post": _ENROLS,
    "auth.message_page": _ENROLS,
    "auth.message_start": replace(_ENROLS, keeps_form="auth.message_page"),
    "auth.message_check": _ENROLS,
    "auth.message_check_post": _ENROLS,
    "auth.message_send_page": _ENROLS,
    "auth.message_send": _ENROLS,
    "auth.passkey_page": _ENROLS,
    "auth.passkey_add": _ENROLS,
    "auth.recovery_codes_page": _ENROLS,
    "auth.recovery_codes_make": _ENROLS,
    "auth.recovery_codes_kept": _ENROLS,
    "auth.register": _PUBLIC,
    "auth.register_post": _PUBLIC,
    "auth.register_way": _REGISTERS,
    "auth.register_way_post": _REGISTERS,
    "auth.register_code": _REGISTERS,
    "auth.register_code_post": _REGISTERS,
    "auth.register_account": _REGISTERS,
    "auth.register_account_post": _REGISTERS,
    "auth.register_id": _REGISTERS,
    "auth.register_id_post": _REGISTERS,
    "auth.register_strength": _REGISTERS,
    "auth.register_free": _REGISTERS,
    "auth.recover": _PUBLIC,
    "auth.recover_post": _PUBLIC,
    "auth.recover_way": _RECOVERS,
    "auth.recover_way_post": _RECOVERS,
    "auth.recover_code": _RECOVERS,
    "auth.recover_code_post": _RECOVERS,
    "auth.recover_sent": _RECOVERS,
    "auth.recover_which": _RECOVERS,
    "auth.recover_which_post": _RECOVERS,
    "auth.recover_password": _RECOVERS,
    "auth.recover_password_post": _RECOVERS,
    "auth.recover_strength": _RECOVERS,
    "auth.recover_link": _PUBLIC,
    "auth.recover_link_post": _PUBLIC,
    "auth.recover_link_strength": _PUBLIC,
    "auth.find_id": _PUBLIC,
    "auth.find_id_post": _PUBLIC,
    "auth.find_id_way": _FINDS_ID,
    "auth.find_id_way_post": _FINDS_ID,
    "auth.find_id_sent": _FINDS_ID,
    "auth.welcome_strength": _PUBLIC,
    "demo.mailbox": _PUBLIC,
    "demo.mailbox_message": _PUBLIC,
    "dashboard.index": _PUBLIC,
    "dashboard.choose_account": Rule(Who.CUSTOMER),
    "dashboard.home": Rule(Who.ACCOUNT, EVERY_ROLE, is_kept=True),
    "activity.event_list": _OWN,
    "activity.not_me": _OWN,
    "activity.not_me_post": _OWN,
    "usage.period": _SEES_LINE,
    "usage.months": _SEES_LINE,
    "usage.sessions": _SEES_LINE,
    "usage.csv": _SEES_LINE,
    "usage.top_up": _CHANGES_PAYMENT,
    "usage.top_up_post": Rule(Who.ACCOUNT, PAYS, keeps_form="usage.top_up"),
    "usage.alerts": _OWNS,
    "usage.alerts_post": Rule(Who.ACCOUNT, OWNS, keeps_form="usage.alerts"),
    "equipment.overview": Rule(Who.ACCOUNT, RUNS_LINE),
    "equipment.restart": Rule(Who.ACCOUNT, RUNS_LINE),
    "equipment.restart_post": Rule(Who.ACCOUNT, RUNS_LINE, keeps_form="equipment.restart"),
    "equipment.refresh": Rule(Who.ACCOUNT, RUNS_LINE),
    "equipment.wifi": Rule(Who.ACCOUNT, RUNS_LINE),
    "equipment.wifi_post": Rule(Who.ACCOUNT, RUNS_LINE, keeps_form="equipment.wifi"),
    "equipment.outcome": Rule(Who.ACCOUNT, RUNS_LINE),
    "plans.list": Rule(Who.ACCOUNT, SEES_MONEY),
    "plans.channels": Rule(Who.ACCOUNT, SEES_MONEY),
    "plans.compare": Rule(Who.ACCOUNT, SEES_MONEY),
    "plans.switch": _OWNS,
    "plans.switch_post": Rule(Who.ACCOUNT, OWNS, keeps_form="plans.switch"),
    "plans.add": _OWNS,
    "plans.add_post": Rule(Who.ACCOUNT, OWNS, keeps_form="plans.add"),
    "plans.remove": _OWNS,
    "plans.remove_post": Rule(Who.ACCOUNT, OWNS, keeps_form="plans.remove"),
    "plans.end": _OWNS,
    "plans.end_post": Rule(Who.ACCOUNT, OWNS, keeps_form="plans.end"),
    "plans.change": Rule(Who.ACCOUNT, SEES_MONEY),
    "plans.undo": _OWNS,
    "phone.list": _SEES_LINE,
    "phone.number": _OWNS,
    "phone.calls": _OWNS,
    "phone.calls_csv": _OWNS,
    "phone.number_post": Rule(Who.ACCOUNT, OWNS, keeps_form="phone.number"),
    "plans.pause": _OWNS,
    "plans.pause_post": Rule(Who.ACCOUNT, OWNS, keeps_form="plans.pause"),
    "plans.pause_detail": Rule(Who.ACCOUNT, SEES_MONEY),
    "plans.pause_undo": _OWNS,
    "plans.pause_end": _OWNS,
    "plans.pause_end_post": Rule(Who.ACCOUNT, OWNS, keeps_form="plans.pause_end"),
    "plans.move": _OWNS,
    "plans.move_post": Rule(Who.ACCOUNT, OWNS, keeps_form="plans.move"),
    "plans.move_detail": _OWNS,
    "plans.move_withdraw": _OWNS,
    "people.person_list": _OWNS,
    "people.invite": _OWNS,
    "people.invite_post": Rule(Who.ACCOUNT, OWNS, keeps_form="people.invite"),
    "people.invitation_withdraw": _OWNS,
    "people.person": _OWNS,
    "people.person_post": Rule(Who.ACCOUNT, OWNS, keeps_form="people.person"),
    "people.person_remove_page": _OWNS,
    "people.person_remove": _OWNS,
    "people.leave": _OWN,
    "people.leave_post": _OWN,
    "people.invitation": Rule(Who.EVERYONE, proof=Proof.STRICT_COOKIE, greets=True),
    "people.invitation_post": _PUBLIC,
    "people.invitation_strength": _PUBLIC,
    "people.invitation_accept": _OWN,
    "settings.index": _OWN,
    "settings.name": _OWN,
    "settings.name_post": _sets("settings.name"),
    "settings.language": _OWN,
    "settings.language_post": _sets("settings.language"),
    "settings.time_zone": _OWN,
    "settings.time_zone_post": _sets("settings.time_zone"),
    "settings.messages": _OWN,
    "settings.messages_post": _sets("settings.messages"),
    "settings.password": _OWN,
    "settings.password_post": _sets("settings.password"),
    "settings.password_strength": _OWN,
    "settings.contacts": _OWN,
    "settings.contact_add": _OWN,
    "settings.contact_add_post": _sets("settings.contact_add"),
    "settings.contact_replace": _OWN,
    "settings.contact_replace_post": _sets("settings.contact_replace"),
    "settings.contact_remove": _OWN,
    "settings.contact_remove_post": _sets("settings.contact_remove"),
    "settings.contact_code": _OWN,
    "settings.contact_code_post": _sets("settings.contact_code"),
    "settings.contact_send_again": _OWN,
    "settings.contact_withdraw": _OWN,
    "settings.sessions": _OWN,
    "settings.session_end": _OWN,
    "settings.sessions_end_others": _OWN,
    "settings.device_distrust": _OWN,
    "settings.data": _OWN,
    "settings.data_post": _sets("settings.data"),
    "settings.data_file": _OWN,
    "settings.close": _OWN,
    "settings.close_post": _sets("settings.close"),
    "settings.address": _OWN,
    "settings.address_post": _sets("settings.address"),
    "billing.overview": _READS_MONEY,
    "billing.invoice_list": _READS_MONEY,
    "billing.invoice_detail": _READS_MONEY,
    "billing.invoice_pdf": Rule(Who.ACCOUNT, SEES_MONEY),
    "billing.invoice_csv": Rule(Who.ACCOUNT, SEES_MONEY),
    "billing.account_statement": _READS_MONEY,
    "billing.account_statement_pdf": Rule(Who.ACCOUNT, SEES_MONEY),
    "billing.account_statement_csv": Rule(Who.ACCOUNT, SEES_MONEY),
    "billing.spending": _READS_MONEY,
    "billing.payment_list": _READS_MONEY,
    "billing.payment_detail": Rule(Who.ACCOUNT, SEES_MONEY),
    "billing.pay": Rule(Who.ACCOUNT, PAYS),
    "billing.pay_start": Rule(Who.ACCOUNT, PAYS, keeps_form="billing.pay"),
    "billing.payment_continue": _CHANGES_PAYMENT,
    "billing.payment_cancel": _CHANGES_PAYMENT,
    "billing.methods.method_list": _CHANGES_PAYMENT,
    "billing.methods.method_add_page": _CHANGES_PAYMENT,
    "billing.methods.method_add": _CHANGES_PAYMENT,
    "billing.methods.method_detail": _CHANGES_PAYMENT,
    "billing.methods.method_rename": Rule(
        Who.ACCOUNT, PAYS, keeps_form="billing.methods.method_detail"
    ),
    "billing.methods.method_prefer": _CHANGES_PAYMENT,
    "billing.methods.method_remove_page": _CHANGES_PAYMENT,
    "billing.methods.method_remove": _CHANGES_PAYMENT,
    "billing.method_return": Rule(
        Who.EVERYONE,
        proof=Proof.OWN,
        # It then shows what is known and does not ask.
        stays_open=True,
        get_writes="whether the method is saved, as the gateway tells it",
    ),
    "billing.planned.planned_detail": _READS_MONEY,
    "billing.planned.schedule": _CHANGES_PAYMENT,
    "billing.planned.schedule_post": Rule(Who.ACCOUNT, PAYS, keeps_form="billing.planned.schedule"),
    "billing.planned.change": _CHANGES_PAYMENT,
    "billing.planned.change_post": Rule(Who.ACCOUNT, PAYS, keeps_form="billing.planned.change"),
    "billing.planned.planned_cancel": _CHANGES_PAYMENT,
    "billing.planned.planned_try": _CHANGES_PAYMENT,
    "billing.planned.planned_pay": _CHANGES_PAYMENT,
    "billing.planned.planned_skip": _CHANGES_PAYMENT,
    "billing.planned.autopay": _CHANGES_PAYMENT,
    "billing.planned.autopay_post": Rule(Who.ACCOUNT, PAYS, keeps_form="billing.planned.autopay"),
    "billing.planned.autopay_off": _CHANGES_PAYMENT,
    "billing.planned.arrangement": _CHANGES_PAYMENT,
    "billing.planned.arrangement_post": Rule(
        Who.ACCOUNT, PAYS, keeps_form="billing.planned.arrangement"
    ),
    "billing.planned.arrangement_end": _CHANGES_PAYMENT,
    "billing.vouchers.redeem": _CHANGES_PAYMENT,
    "billing.vouchers.redeem_post": Rule(Who.ACCOUNT, PAYS, keeps_form="billing.vouchers.redeem"),
    "billing.disputes.dispute_new": _CHANGES_PAYMENT,
    "billing.disputes.dispute_open": Rule(
        Who.ACCOUNT, PAYS, keeps_form="billing.disputes.dispute_new"
    ),
    "billing.disputes.dispute_list": _CHANGES_PAYMENT,
    "billing.disputes.dispute": _CHANGES_PAYMENT,
    "billing.disputes.dispute_write": Rule(
        Who.ACCOUNT, PAYS, keeps_form="billing.disputes.dispute"
    ),
    "billing.disputes.dispute_withdraw": _CHANGES_PAYMENT,
    "billing.ways.how_to_pay": _READS_MONEY,
    # Only an owner of both accounts can move anything, which the service sees to.
    "billing.ways.credit_move": _CHANGES_PAYMENT,
    "billing.ways.credit_move_post": Rule(Who.ACCOUNT, PAYS, keeps_form="billing.ways.credit_move"),
    "billing.payment_return": Rule(
        Who.EVERYONE,
        proof=Proof.OWN,
        # It then shows what is known and does not ask.
        stays_open=True,
        get_writes="the payment's state, as the gateway tells it",
    ),
    "api.payment_notice": Rule(Who.EVERYONE, proof=Proof.OWN),
    "api.accounting": Rule(Who.EVERYONE, proof=Proof.OWN),
    "staff.join": _PUBLIC,
    "staff.join_post": _PUBLIC,
    "staff.join_strength": _PUBLIC,
    "staff.search": _staff(EVERY_STAFF, _NOTED),
    "staff.account": _staff(EVERY_STAFF, _NOTED),
    "staff.call": _staff(CALL_TAKERS, _NOTED),
    "staff.call_send": _staff(CALL_TAKERS),
    "staff.call_check": _staff(CALL_TAKERS),
    "staff.unpaid": _staff(BILLERS, _NOTED),
    "staff.unpaid_rest": _staff(BILLERS, keeps_form="staff.unpaid"),
    "staff.unpaid_rest_end": _staff(BILLERS),
    "staff.unpaid_group": _staff(BILLERS),
    "staff.person": _staff(HELPERS, _NOTED),
    "staff.unlock": _staff(HELPERS),
    "staff.end_sessions": _staff(HELPERS),
    # A view leads to pages of customers, which are closed then.
    "staff.view": replace(_staff(HELPERS, _NOTED), stays_open=False),
    "staff.view_begin": replace(_staff(HELPERS, keeps_form="staff.view"), stays_open=False),
    "staff.view_end": Rule(Who.CUSTOMER, viewers_too=True, stays_open=True, open_to_staff=True),
    "staff.reset": _staff(HELPERS),
    "staff.resets": _staff(HELPERS, _NOTED),
    "staff.reset_proof": _staff(HELPERS, _NOTED),
    "staff.reset_proof_post": _staff(HELPERS, keeps_form="staff.reset_proof"),
    "staff.reset_approve": _staff(HELPERS),
    "staff.reset_refuse": _staff(HELPERS),
    "staff.plan_changes": _staff(CALL_TAKERS, _NOTED),
    "staff.plan_change": _staff(CALL_TAKERS, _NOTED),
    "staff.plan_change_accept": _staff(CALL_TAKERS, keeps_form="staff.plan_change"),
    "staff.plan_change_refuse": _staff(CALL_TAKERS, keeps_form="staff.plan_change"),
    "staff.phone.list": _staff(EVERY_STAFF, _NOTED),
    "staff.phone.account": _staff(EVERY_STAFF, _NOTED),
    "staff.phone.give": _staff(EVERY_STAFF, keeps_form="staff.phone.account"),
    "staff.phone.take_back": _staff(EVERY_STAFF),
    "staff.phone.confirm": _staff(TECHNICIANS),
    "staff.phone.try_again": _staff(TECHNICIANS),
    "staff.phone.calls": _staff(BILLERS),
    "staff.phone.calls_take": _staff(BILLERS, keeps_form="staff.phone.calls"),
    "staff.phone.call_import": _staff(BILLERS, _NOTED),
    "staff.phone.call_refused": _staff(BILLERS, _NOTED),
    "staff.move": _staff(CALL_TAKERS, _NOTED),
    "staff.move_accept": _staff(CALL_TAKERS, keeps_form="staff.move"),
    "staff.move_refuse": _staff(CALL_TAKERS, keeps_form="staff.move"),
    "staff.letters": _staff(HELPERS, _NOTED),
    "staff.letter_print": _staff(HELPERS),
    "staff.bill_runs.list": _staff(BILLERS),
    "staff.bill_runs.preview": _staff(BILLERS, keeps_form="staff.bill_runs.list"),
    "staff.bill_runs.run": _staff(BILLERS, _NOTED),
    "staff.bill_runs.start": _staff(BILLERS),
    "staff.bill_runs.stop": _staff(BILLERS),
    "staff.prices.list": _staff(BILLERS),
    "staff.prices.plan": _staff(BILLERS),
    "staff.prices.plan_post": _staff(BILLERS, keeps_form="staff.prices.plan"),
    "staff.prices.offering": _staff(BILLERS),
    "staff.prices.offering_post": _staff(BILLERS, keeps_form="staff.prices.offering"),
    "staff.prices.withdraw": _staff(BILLERS),
    "staff.prices.withdraw_post": _staff(BILLERS, keeps_form="staff.prices.withdraw"),
    "staff.reports.list": _staff(BILLERS),
    "staff.reports.journal": _staff(BILLERS),
    "staff.reports.journal_file": _staff(BILLERS, _NOTED),
    "staff.reports.report": _staff(BILLERS),
    "staff.reports.report_csv": _staff(BILLERS),
    "staff.money.account": _staff(BILLERS, _NOTED),
    "staff.money.take": _staff(BILLERS, _NOTED),
    "staff.money.take_post": _staff(BILLERS, keeps_form="staff.money.take"),
    "staff.money.receipt": _staff(BILLERS, _NOTED),
    "staff.money.refund": _staff(BILLERS, _NOTED),
    "staff.money.payment": _staff(BILLERS, _NOTED),
    "staff.money.payment_refund": _staff(BILLERS, keeps_form="staff.money.payment"),
    "staff.money.credit": _staff(BILLERS, _NOTED),
    "staff.money.credit_post": _staff(BILLERS, keeps_form="staff.money.credit"),
    "staff.money.charge": _staff(BILLERS, _NOTED),
    "staff.money.charge_post": _staff(BILLERS, keeps_form="staff.money.charge"),
    "staff.money.charge_cancel": _staff(BILLERS),
    "staff.money.invoice": _staff(BILLERS, _NOTED),
    "staff.money.invoice_credit": _staff(BILLERS, keeps_form="staff.money.invoice"),
    "staff.money.invoice_send": _staff(BILLERS),
    "staff.money.exemption_list": _staff(BILLERS, _NOTED),
    "staff.money.exemption_add": _staff(BILLERS, keeps_form="staff.money.exemption_list"),
    "staff.money.exemption": _staff(BILLERS, _NOTED),
    "staff.money.exemption_end": _staff(BILLERS, keeps_form="staff.money.exemption"),
    "staff.money.approvals": _staff(BILLERS, _NOTED),
    "staff.money.approval": _staff(BILLERS, _NOTED),
    "staff.money.approval_post": _staff(BILLERS, keeps_form="staff.money.approval"),
    "staff.money.vouchers": _staff(BILLERS),
    "staff.money.voucher_make": _staff(BILLERS, keeps_form="staff.money.vouchers"),
    "staff.money.voucher_batch": _staff(BILLERS),
    "staff.money.voucher_cancel": _staff(BILLERS, keeps_form="staff.money.voucher_batch"),
    "staff.money.bank_line_list": _staff(BILLERS, _NOTED),
    "staff.money.bank_line": _staff(BILLERS, _NOTED),
    "staff.money.bank_line_post": _staff(BILLERS, keeps_form="staff.money.bank_line"),
    "staff.money.disputes": _staff(BILLERS, _NOTED),
    "staff.money.dispute": _staff(BILLERS, _NOTED),
    "staff.money.dispute_post": _staff(BILLERS, keeps_form="staff.money.dispute"),
    "staff.members": _staff(ADMINISTRATORS),
    "staff.member_add": _staff(ADMINISTRATORS, keeps_form="staff.members"),
    "staff.member": _staff(ADMINISTRATORS),
    "staff.member_change": _staff(ADMINISTRATORS, keeps_form="staff.member"),
}
# What any signed-in GET may write (bar 40).
EVERY_GET_WRITES = "sessions.last_used_at"


class UnlistedRoute(RuntimeError):
    """A route has no rule in POLICY."""


def check_policy(app: Flask) -> None:
    """Refuse to start with a route that POLICY does not name (bar 30)."""
    missing = {rule.endpoint for rule in app.url_map.iter_rules()} - set(POLICY)
    if missing:
        raise UnlistedRoute(f"core/policy.py has no rule for {', '.join(sorted(missing))}")
