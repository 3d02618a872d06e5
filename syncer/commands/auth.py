"""``auth gmail`` and ``auth outlook``: sign in once, see that it works, and keep the token."""

from __future__ import annotations

from pathlib import Path

import click

from syncer.commands.common import settings_help
from syncer.sign_in import GMAIL_SETTINGS, OUTLOOK_SETTINGS, PATIENCE_SECONDS

_HIDDEN = ("AWS_REGION", "AWS_ENDPOINT_URL")  # which only matter to secretsmanager:NAME
save_option = click.option(
    "--save",
    metavar="PLACE",
    help="Where to keep the token: env:FILE, file:FILE or secretsmanager:NAME. Default: TOKENS_FILE or "
    "TOKENS_SECRET_ID, if one is set, else env:.env.",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(1, 3600),
    default=PATIENCE_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for you to sign in.",
)


@click.group()
def auth() -> None:
    """Sign in to Gmail and to Outlook.com, once each.

    \b
    Example:
      syncer auth gmail && syncer auth outlook
    """


@auth.command("gmail", epilog=settings_help(*(n for n in GMAIL_SETTINGS if n not in _HIDDEN)))
@click.option(
    "--client-secrets",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The OAuth client, as downloaded from the Google Cloud console (client_secret*.json).",
)
@click.option("--no-browser", is_flag=True, help="Open no browser here: print the address, take the answer pasted.")
@save_option
@timeout_option
def auth_gmail(client_secrets: Path | None, no_browser: bool, save: str | None, timeout: float) -> None:
    """Sign in to the Gmail account that is read, check that IMAP works, and keep the token.

    How to make an OAuth client, click by click: docs/google-oauth.md.

    \b
    Example:
      syncer auth gmail --client-secrets ~/Downloads/client_secret_123.json
    """
    from syncer.commands.signing_in import gmail

    gmail(client_secrets, browser=not no_browser, save=save, timeout=timeout)


@auth.command("outlook", epilog=settings_help(*(n for n in OUTLOOK_SETTINGS if n not in _HIDDEN)))
@click.option("--browser", is_flag=True, help="Sign in through a browser on this machine instead of with a code.")
@save_option
@timeout_option
def auth_outlook(browser: bool, save: str | None, timeout: float) -> None:
    """Sign in to the Outlook.com account that gets the copies, check that IMAP works, and keep the token.

    You get a code to enter at a page of Microsoft's, on any device. How to register the app, click by
    click: docs/microsoft-oauth.md.

    \b
    Example:
      syncer auth outlook --save file:tokens.json
    """
    from syncer.commands.signing_in import outlook

    outlook(browser=browser, save=save, timeout=timeout)
