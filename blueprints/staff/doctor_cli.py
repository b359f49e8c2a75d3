"""`flask doctor`: what is wrong with this deployment, and what to do."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from dataclasses import asdict

import click
from flask import current_app
from flask.cli import with_appcontext

from core import doctor
from core.findings import Finding, Level

_COLOURS = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "red"}
_MARGIN = 19


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@with_appcontext
def doctor_command(as_json: bool) -> None:
    """Say in words what is wrong with this deployment; exit 1 if something is."""
    settings = current_app.config["PORTAL"]
    findings = []
    for finding in doctor.examine(settings):
        findings.append(finding)
        if not as_json:
            show(finding)
    wrong = sum(finding.level is Level.WRONG for finding in findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"ok": not wrong, "checks": checks}, indent=2))
    else:
        show_sum(wrong, len(findings))
    if wrong:
        sys.exit(1)


def show_sum(wrong: int, count: int) -> None:
    """Print how many of the checks found something."""
    click.echo()
    click.echo(
        f"{wrong} of {count} checks found something wrong." if wrong else "Nothing is wrong."
    )


def show(finding: Finding) -> None:
    """Print it, with what to do about it."""
    level = click.style(f"{finding.level:<6}", fg=_COLOURS[finding.level], bold=True)
    width = max(min(shutil.get_terminal_size().columns, 110), 50) - _MARGIN
    lines = textwrap.wrap(finding.words, width, break_long_words=False, break_on_hyphens=False)
    if finding.remedy:
        lines += textwrap.wrap(
            f"→ {finding.remedy}", width, break_long_words=False, subsequent_indent="  "
        )
    click.echo(f"{level} {finding.check:<12}{lines[0]}")
    for line in lines[1:]:
        click.echo(f"{'':{_MARGIN}}{line}")
