"""`flask staff`: the ISP's own people."""

from __future__ import annotations

from collections.abc import Callable

import click
from flask import current_app

from blueprints.staff import members
from blueprints.staff.errors import MemberUnknown
from core.commands import Commands
from core.db import unit_of_work
from core.errors import Refusal
from models import StaffRole

staff_cli = Commands("staff", help="The ISP's own people.")

_role = click.option(
    "--role",
    type=click.Choice([role.value for role in StaffRole]),
    required=True,
    help="What they may see and do.",
)


def link_of(token: str) -> str:
    return f"{current_app.config['PORTAL'].public_url}/staff/join/{token}"


def tell_link(name: str, token: str) -> None:
    """Print the link alone on standard output, and what to know about it beside."""
    click.echo(link_of(token))
    click.echo(
        f"For {name} alone: it works once, within {members.LINK_VALID.days} days, and leads to a "
        "password and a second factor.",
        err=True,
    )


def _fail(refusal: Refusal, who: str) -> click.ClickException:
    if isinstance(refusal, MemberUnknown):
        return click.ClickException(f"There is no staff member {who}.")
    return click.ClickException(refusal.customer_message)


@staff_cli.command("add")
@click.argument("name")
@click.argument("email")
@_role
def add(name: str, email: str, role: str) -> None:
    """Add a staff member and print a one-time link with which they choose ID and password.

    For one who has not used the link yet, a new link is printed and the old one ends.
    """
    try:
        token = members.add(name, email, StaffRole(role))
    except Refusal as refusal:
        raise _fail(refusal, email) from None
    tell_link(name, token)


@staff_cli.command("list")
def list_members() -> None:
    """List the staff members, with role and state."""
    found = members.list_members()
    if not found:
        click.echo("There is nobody yet: flask staff add NAME EMAIL --role administrator")
    for member in found:
        state = (
            "disabled"
            if member.is_disabled
            else "link not used yet"
            if member.is_waiting
            else "active"
            if member.has_second_factor
            else "no second factor yet"
        )
        click.echo(f"{member.name}  {member.email}  {member.sign_in_id}  {member.role}  {state}")


@staff_cli.command("role")
@click.argument("who", metavar="EMAIL_OR_ID")
@_role
def set_role(who: str, role: str) -> None:
    """Give a staff member another role. They sign in again."""
    _change(who, lambda public_id: _set_role(public_id, StaffRole(role)))


@staff_cli.command("disable")
@click.argument("who", metavar="EMAIL_OR_ID")
def disable(who: str) -> None:
    """Shut a staff member out, with the next request."""
    _change(who, lambda public_id: _set_disabled(public_id, is_disabled=True))


@staff_cli.command("enable")
@click.argument("who", metavar="EMAIL_OR_ID")
def enable(who: str) -> None:
    """Let a staff member in again who was disabled."""
    _change(who, lambda public_id: _set_disabled(public_id, is_disabled=False))


def _set_role(public_id: str, role: StaffRole) -> None:
    unit_of_work(lambda session: members.set_role(session, public_id, role))


def _set_disabled(public_id: str, *, is_disabled: bool) -> None:
    unit_of_work(lambda session: members.set_disabled(session, public_id, is_disabled=is_disabled))


def _change(who: str, change: Callable[[str], None]) -> None:
    try:
        change(members.find_by_email(who))
    except Refusal as refusal:
        raise _fail(refusal, who) from None
    click.echo("Done.")
