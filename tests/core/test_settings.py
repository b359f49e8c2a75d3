"""What the environment may say, and that anything else is refused by name (bar 12)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from core.log import LogWhat
from core.settings import Settings, SettingsError, read_settings

GOOD_SECRET = "f3a1c94be07d562819fe3cab40d7581262b9"


def read(folder: Path, **env: str) -> Settings:
    return read_settings({"LASTMILE_DATA": str(folder)} | env)


def test_nothing_has_to_be_set(tmp_path: Path) -> None:
    found = read(tmp_path / "data")
    assert (found.host, found.port, found.is_demo, found.payment_gateway) == (
        "127.0.0.1",
        8000,
        False,
        "",
    )
    assert found.database_url == f"sqlite:///{tmp_path}/data/lastmile.db"


def test_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = read(tmp_path)
    assert len(first.secret) == 64
    assert read(tmp_path).secret == first.secret
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_new_data_folder_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    folder = read(tmp_path / "data").data
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_demo_has_the_sandbox_and_the_rest_has_not(tmp_path: Path) -> None:
    assert read(tmp_path, LASTMILE_DEMO="1").payment_gateway == "sandbox"
    assert read(tmp_path).payment_gateway == ""


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://My.Pinecrest.Example", "https://my.pinecrest.example"),
        ("https://my.pinecrest.example:443/", "https://my.pinecrest.example"),
        ("https://my.pinecrest.example:8443", "https://my.pinecrest.example:8443"),
        (" http://127.0.0.1:5000 ", "http://127.0.0.1:5000"),
    ],
)
def test_public_address_is_kept_as_browsers_send_it(tmp_path: Path, given: str, kept: str) -> None:
    assert read(tmp_path, LASTMILE_PUBLIC_URL=given).public_url == kept


def test_postgresql_is_named_as_its_users_do(tmp_path: Path) -> None:
    for url in ("postgres://a@h/d", "postgresql://a@h/d", "postgresql+psycopg://a@h/d"):
        assert read(tmp_path, DATABASE_URL=url).database_url == "postgresql+psycopg://a@h/d"


def test_settings_do_not_print_their_secrets(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        LASTMILE_SECRET=GOOD_SECRET,
        DATABASE_URL="postgresql://a:canary1@h/d",
        LASTMILE_SMTP_URL="smtps://a:canary2@h",
    )
    assert not any(word in repr(found) for word in (GOOD_SECRET, "canary"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LASTMILE_SECRET", "short"),
        ("LASTMILE_SECRET", "x" * 31),
        ("LASTMILE_SECRET", "k" * 64),
        ("LASTMILE_SECRET", "abc" * 20),
        ("LASTMILE_SECRET", f"change-me-{GOOD_SECRET}"),
        ("LASTMILE_SECRET", f"my-secret-{GOOD_SECRET}"),
        ("LASTMILE_SECRET", "0123456789abcdef0123456789abcdef"),
        ("LASTMILE_PAYMENT_GATEWAY", "sandbox"),
        ("LASTMILE_PAYMENT_GATEWAY", "paypal"),
        ("LASTMILE_DEMO", "maybe"),
        ("LASTMILE_DEMO", "2"),
        ("PORT", "0"),
        ("PORT", "65535"),
        ("PORT", "-1"),
        ("PORT", "8000.0"),
        ("PORT", "٨٠٠٠"),
        ("PORT", "9" * 5000),
        ("LASTMILE_PROCESSES", "0"),
        ("LASTMILE_PROCESSES", "many"),
        ("LASTMILE_PROXY_COUNT", "6"),
        ("LASTMILE_HOST", "portal.example"),
        ("LASTMILE_HOST", "1.2.3"),
        ("LASTMILE_PUBLIC_URL", "my.pinecrest.example"),
        ("LASTMILE_PUBLIC_URL", "http://my.pinecrest.example"),
        ("LASTMILE_PUBLIC_URL", "ftp://my.pinecrest.example"),
        ("LASTMILE_PUBLIC_URL", "https://my.pinecrest.example/portal"),
        ("LASTMILE_PUBLIC_URL", "https://my.pinecrest.example?x"),
        ("LASTMILE_PUBLIC_URL", "https://me@my.pinecrest.example"),
        ("LASTMILE_PUBLIC_URL", "https://my.pinecrest.example:99999"),
        ("LASTMILE_PUBLIC_URL", "https://[::1"),
        ("LASTMILE_PUBLIC_URL", "https://"),
        ("DATABASE_URL", "mysql://a@h/d"),
        ("DATABASE_URL", "postgresql://a@h:port/d"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:///here.db"),
        ("DATABASE_URL", "nonsense"),
        ("LASTMILE_SHARED_NETWORKS", "10.0.0.0/33"),
        ("LASTMILE_SHARED_NETWORKS", "10.0.0.1/8"),
        ("LASTMILE_SHARED_NETWORKS", "100.64.0.0/10, everyone"),
        ("LASTMILE_SMTP_URL", "mail.example"),
        ("LASTMILE_SMTP_URL", "smtp://"),
        ("LASTMILE_SMTP_URL", "smtp://h:port"),
        ("LASTMILE_MAIL_FROM", "nobody"),
        ("LASTMILE_MAIL_FROM", "a@b\nBcc: c@d"),
        ("LASTMILE_DATA", "~nobody-of-this-name/data"),
        ("LASTMILE_DATA", "/proc/nowhere"),
    ],
)
def test_value_without_sense_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({"LASTMILE_DATA": str(tmp_path), name: value})
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_refusal_does_not_repeat_a_password(tmp_path: Path) -> None:
    for name, value in (
        ("DATABASE_URL", "postgresql://a:canary@h:port/d"),
        ("LASTMILE_SMTP_URL", "smtp://a:canary@h:port"),
        ("LASTMILE_SECRET", "canary"),
    ):
        with pytest.raises(SettingsError) as refused:
            read(tmp_path, **{name: value})
        assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LASTMILE_HOST", "0.0.0.0"),
        ("LASTMILE_HOST", "::"),
        ("LASTMILE_HOST", "192.0.2.1"),
        ("LASTMILE_PUBLIC_URL", "https://my.pinecrest.example"),
    ],
)
def test_demo_stays_on_this_machine(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="LASTMILE_DEMO"):
        read(tmp_path, LASTMILE_DEMO="1", **{name: value})


def test_refused_settings_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        read(tmp_path / "data", LASTMILE_HOST="nowhere")
    assert not (tmp_path / "data").exists()


def test_file_of_settings_is_read_and_the_environment_counts_first(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("# ours\n\nPORT = 8100\nLASTMILE_PROCESSES='3'\nLASTMILE_PROXY_COUNT=1\n")
    env = {"LASTMILE_DATA": str(tmp_path / "data"), "LASTMILE_SETTINGS": str(file)}
    settings = read_settings(env | {"LASTMILE_PROCESSES": "4"})
    assert (settings.port, settings.processes, settings.proxy_count) == (8100, 4, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("PORT\n", "line 1"),
        ("\nPATH=/bin\n", "line 2: the portal has no setting 'PATH'"),
        ("PORT=many\n", "PORT must be"),
        ("\ud800", "UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_file_of_settings_without_sense_is_said(
    tmp_path: Path, text: str | None, says: str
) -> None:
    file = tmp_path / "file"
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
    env = {"LASTMILE_DATA": str(tmp_path / "data"), "LASTMILE_SETTINGS": str(file)}
    with pytest.raises(SettingsError, match=says):
        read_settings(env)


def test_backups_lie_in_the_data_folder_unless_told_otherwise(tmp_path: Path) -> None:
    assert read(tmp_path).backups == tmp_path / "backups"
    assert read(tmp_path, LASTMILE_BACKUPS="/srv/kept").backups == Path("/srv/kept")
    assert read(tmp_path, LASTMILE_BACKUPS="off").backups is None


def test_demo_makes_no_backups_unasked(tmp_path: Path) -> None:
    assert read(tmp_path, LASTMILE_DEMO="1").backups is None
    assert read(tmp_path, LASTMILE_DEMO="1", LASTMILE_BACKUPS="/srv/kept").backups is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LASTMILE_BACKUPS", "kept"),
        ("LASTMILE_BACKUP_HOUR", "24"),
        ("LASTMILE_BACKUP_KEEP_DAYS", "0"),
        ("LASTMILE_BACKUP_KEEP_COUNT", "none"),
    ],
)
def test_backup_settings_without_sense_are_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read(tmp_path, **{name: value})


def test_log_is_quiet_in_the_demo_and_complete_in_a_real_deployment(tmp_path: Path) -> None:
    assert read(tmp_path, LASTMILE_DEMO="1").log is LogWhat.QUIET
    assert read(tmp_path).log is LogWhat.REQUESTS
    assert read(tmp_path, LASTMILE_LOG=" Events ").log is LogWhat.EVENTS
    with pytest.raises(SettingsError, match="LASTMILE_LOG must be one of quiet, events, requests"):
        read(tmp_path, LASTMILE_LOG="loud")


@pytest.mark.parametrize("token", ["short", "x" * 19, "with a space in the middle", "ñ" * 30])
def test_metrics_token_that_can_be_guessed_is_refused_and_not_repeated(
    tmp_path: Path, token: str
) -> None:
    with pytest.raises(SettingsError, match="LASTMILE_METRICS_TOKEN") as refused:
        read(tmp_path, LASTMILE_METRICS_TOKEN=token)
    assert token not in str(refused.value)
    found = read(tmp_path, LASTMILE_METRICS_TOKEN="t" * 20)
    assert found.metrics_token == "t" * 20
    assert "t" * 20 not in repr(found)


STRIPE = {
    "LASTMILE_PAYMENT_GATEWAY": "stripe",
    "LASTMILE_STRIPE_KEY": "sk_live_0123456789",
    "LASTMILE_STRIPE_WEBHOOK_SECRETS": "whsec_0123456789, whsec_9876543210",
}


def test_stripe_is_set_by_its_own_variables(tmp_path) -> None:
    found = read(tmp_path, **STRIPE, LASTMILE_STRIPE_METHODS="card, us_bank_account")
    assert found.payment_gateway == "stripe"
    assert found.stripe is not None
    assert found.stripe.webhook_secrets == ("whsec_0123456789", "whsec_9876543210")
    assert found.stripe.method_types == ("card", "us_bank_account")
    assert "0123456789" not in repr(found)
    assert read(tmp_path).stripe is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"LASTMILE_STRIPE_KEY": ""}, "LASTMILE_STRIPE_KEY"),
        ({"LASTMILE_STRIPE_KEY": "pk_live_0123456789"}, "LASTMILE_STRIPE_KEY"),
        ({"LASTMILE_STRIPE_WEBHOOK_SECRETS": ""}, "LASTMILE_STRIPE_WEBHOOK_SECRETS"),
        ({"LASTMILE_STRIPE_WEBHOOK_SECRETS": "other"}, "LASTMILE_STRIPE_WEBHOOK_SECRETS"),
        ({"LASTMILE_STRIPE_METHODS": "Card!"}, "LASTMILE_STRIPE_METHODS"),
        ({"LASTMILE_DEMO": "1"}, "moves no money"),
    ],
)
def test_stripe_that_is_not_set_stops_the_start(tmp_path, changes, named) -> None:
    with pytest.raises(SettingsError, match=named) as error:
        read(tmp_path, **{**STRIPE, **changes})
    assert "0123456789" not in str(error.value)
