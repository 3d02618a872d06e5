"""The conversation of ``auth``: what a person is shown and asked, in order, until the token is kept.

Loaded when somebody signs in: ``run-once`` and ``daemon`` go without.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from syncer import config as settings
from syncer import sign_in, sign_in_gmail, sign_in_outlook
from syncer.browser_redirect import BrowserRedirect
from syncer.commands.auth_screens import Screen, has_browser, left, open_browser
from syncer.commands.common import ENV_FILE
from syncer.errors import AuthError, ConfigError, SideError, SyncError, Unavailable
from syncer.logging_utils import set_up
from syncer.model import EXIT_CONFIG, EXIT_NOT_NOW, EXIT_OK, EXIT_SIGN_IN, Side
from syncer.outlook_imap import NotConnected
from syncer.sign_in import Grant, Mailbox, SignInConfig
from syncer.token_saving import Target, target_of

ERROR_PAGES: Final = (
    "run the command again. If Google's page showed an error, this program could not see it. Error 403 access_denied: "
    "the project has the status Testing, publish it. Error 401 deleted_client or invalid_client, and Error 400 "
    "redirect_uri_mismatch: make a new client of the type Desktop app. All of them: docs/google-oauth.md"
)
MICROSOFT_PAGES: Final = (
    "run the command again. If Microsoft's page showed an error, this program could not see it: its AADSTS number is "
    "in docs/microsoft-oauth.md. Without --browser it needs no redirect"
)


def gmail(client_file: Path | None, *, browser: bool, save: str | None, timeout: float) -> None:
    """Have a person sign in to Gmail; leave the process with the exit code."""
    screen = Screen()
    with _told(screen):
        config = _begin(sign_in.load_gmail)
        target = target_of(save, config, ENV_FILE)
        client = sign_in_gmail.find_client(config, target.stored(Side.SOURCE), client_file, Path())
        screen.title("Sign in to Gmail")
        screen.say(f"The OAuth client comes from {client.found}. The token will be kept in {target.where}.")
        screen.say()
        with BrowserRedirect() as redirect:
            request = sign_in_gmail.GmailRequest.new(client, redirect.uri, redirect.state)
            _show_google(screen, request.address(config), browser=browser and has_browser())
            if sys.stdin is not None:  # None where it is closed
                redirect.read_pasted(sys.stdin.fileno())
            with _concluding(redirect):
                answer = _wait(screen, redirect, timeout, config.side, ERROR_PAGES)
                grant = request.finish(config, answer)
                mailbox = _check(screen, config, grant, lambda: sign_in_gmail.probe(config, grant))
                _save(screen, target, config, grant, mailbox)
                screen.warn(*sign_in_gmail.lifetime_warning(grant, time.time()))
                _page(redirect, mailbox, "Gmail")
        _end(screen, mailbox, "syncer auth outlook")


def outlook(*, browser: bool, save: str | None, timeout: float) -> None:
    """Have a person sign in to Outlook.com; leave the process with the exit code."""
    screen = Screen()
    with _told(screen):
        config = _begin(sign_in.load_outlook)
        target = target_of(save, config, ENV_FILE)
        client = sign_in_outlook.find_client(config, target.stored(Side.DESTINATION), browser=browser)
        screen.title("Sign in to Outlook.com")
        screen.say(f"The app comes from {client.found}. The token will be kept in {target.where}.")
        screen.say()
        microsoft = sign_in_outlook.MicrosoftSignIn(config, client)
        with contextlib.ExitStack() as stack:
            redirect = stack.enter_context(BrowserRedirect("localhost")) if browser else None
            if redirect is None:
                grant = _by_code(screen, microsoft, timeout)
            else:
                _show_microsoft(screen, microsoft.browser_address(redirect.uri, redirect.state))
                stack.enter_context(_concluding(redirect))
                grant = microsoft.finish(_wait(screen, redirect, timeout, config.side, MICROSOFT_PAGES))
            mailbox = _check(screen, config, grant, lambda: sign_in_outlook.probe(config, grant))
            _save(screen, target, config, grant, mailbox)
            if redirect is not None:
                _page(redirect, mailbox, "Outlook.com")
        _end(screen, mailbox, "syncer run-once --dry-run")


def _begin(load: Callable[[Path], SignInConfig]) -> SignInConfig:
    """Read the settings, and begin to log. Raises ConfigError."""
    settings.lend_to_libraries(ENV_FILE)
    config = load(ENV_FILE)
    set_up(config.log_level)
    return config


@contextlib.contextmanager
def _told(screen: Screen) -> Iterator[None]:
    """Tell a person what went wrong, instead of the log; each kind has its exit code."""
    try:
        yield
    except ConfigError as error:
        for fault in error.faults:
            screen.bad(fault)
        sys.exit(EXIT_CONFIG)
    except AuthError as error:
        screen.bad(error.reason, error.remedy)
        sys.exit(EXIT_SIGN_IN)
    except SyncError as error:
        reason = error.reason if isinstance(error, SideError) else str(error)
        screen.bad(reason, "nothing was saved; run the command again later")
        sys.exit(EXIT_NOT_NOW)
    except KeyboardInterrupt:
        screen.say()
        screen.bad("Stopped. The token is kept" if screen.kept else "Stopped. Nothing was saved")
        sys.exit(130)


@contextlib.contextmanager
def _concluding(redirect: BrowserRedirect) -> Iterator[None]:
    """Tell the browser, too, if it did not work."""
    try:
        yield
    except SyncError:
        words = "Nothing was saved. The terminal says why, and what helps."
        redirect.conclude(good=False, title="Signing in did not work", words=words)
        raise


def _show_google(screen: Screen, address: str, *, browser: bool) -> None:
    if browser:
        screen.say("Google's page opens in your browser. If it does not, open this address there yourself:")
    else:
        screen.say("Open this address in a browser, on this machine or any other:")
    screen.address(address)
    screen.say("What you will see:")
    choose = "Choose the account of GMAIL_EMAIL."
    unverified = "'Google hasn't verified this app': press Advanced, then 'Go to ...'. The app is your own."
    box = "Tick the box for reading all your email, then Continue."
    screen.steps([choose, unverified, box])
    screen.say()
    if browser:
        screen.say(
            "Waiting for you there; Ctrl-C ends it. If the browser is on another machine and ends at a page that "
            "cannot be reached, paste that page's address here, as a whole:"
        )
        open_browser(address)
    else:
        screen.say(
            "At the end, a browser on another machine shows that a page at 127.0.0.1 cannot be reached. That is "
            "as it should be: copy that page's address from the address bar, as a whole, and paste it here:"
        )


def _show_microsoft(screen: Screen, address: str) -> None:
    if has_browser():
        screen.say("Microsoft's page opens in your browser. If it does not, open this address there yourself:")
        open_browser(address)
    else:
        screen.say("Open this address in a browser on this machine (on another one, do without --browser):")
    screen.address(address)
    screen.say("Waiting for you there; Ctrl-C ends it.")


def _wait(screen: Screen, redirect: BrowserRedirect, timeout: float, side: Side, remedy: str) -> dict[str, str]:
    """Wait for the browser's answer. Raises AuthError: none came in time."""

    def rejected(fault: str) -> None:
        screen.warn(f"That is of no use: {fault}. Paste the whole address; it begins with {redirect.uri}?")

    try:
        return dict(redirect.wait(timeout, rejected))
    except TimeoutError:
        raise AuthError(side, f"nobody signed in within {timeout:g} seconds", remedy) from None


def _by_code(screen: Screen, microsoft: sign_in_outlook.MicrosoftSignIn, timeout: float) -> Grant:
    """Show a code, and wait until somebody has signed in with it. Raises AuthError, Unavailable."""
    code = microsoft.ask_for_code()
    screen.code(code.user_code, code.page)
    until = min(code.expires_at, time.time() + timeout)
    missed: SideError | None = None
    with screen.waiting(lambda: f"Waiting for you to sign in there: {left(until)} left, Ctrl-C ends it") as renew:
        while time.time() < until:
            _pause(min(code.interval, until - time.time()), renew)
            if time.time() >= until:
                break
            try:
                grant = microsoft.poll(code)
            except Unavailable as error:
                missed = error  # one answer that did not come ends nothing
                continue
            if grant is not None:
                return grant
            missed = None
    if missed is not None:
        raise missed
    again = "run the command again, and enter the code at Microsoft's page"
    raise AuthError(Side.DESTINATION, "nobody entered the code in time", again)


def _pause(seconds: float, renew: Callable[[], None]) -> None:
    """Wait, renewing what is shown every second."""
    until = time.monotonic() + seconds
    while (rest := until - time.monotonic()) > 0:
        time.sleep(min(rest, 1.0))
        renew()


def _check(screen: Screen, config: SignInConfig, grant: Grant, probe: Callable[[], str]) -> Mailbox:
    """See what the token opens, and say so. Raises AuthError: another account."""
    setting = sign_in.SETTING_OF[config.side]
    screen.say()
    screen.good(f"{sign_in.PROVIDER_OF[config.side]} gave a token for mail")
    with screen.waiting(lambda: "Signing in to the mail server"):
        mailbox = sign_in.check_account(config, grant, probe)
    if grant.address and sign_in.is_same_account(grant.address, config.email):
        screen.good(f"It belongs to the account of {setting}")
    elif grant.address:
        screen.warn(f"You signed in as {sign_in.masked(grant.address)}; the mail server takes it for {setting}")
    if mailbox.problem is None:
        screen.good(f"IMAP works: {mailbox.found}")
        return mailbox
    problem = mailbox.problem
    if isinstance(problem, NotConnected) or (isinstance(problem, AuthError) and config.side is Side.DESTINATION):
        words = "authenticated but not connected" if isinstance(problem, NotConnected) else problem.reason
        screen.bad(f"The sign-in is good, but the mailbox cannot be reached by IMAP yet ({words.rstrip('.')})")
        screen.steps(sign_in_outlook.SWITCH_ON)
    else:
        remedy = (
            problem.remedy if isinstance(problem, AuthError) else "the token is kept; later, run this command again"
        )
        screen.bad(f"the mail server could not be asked whether it works: {problem.reason}", remedy)
    return mailbox


def _save(screen: Screen, target: Target, config: SignInConfig, grant: Grant, mailbox: Mailbox) -> None:
    """Keep the token, which is good even if the mailbox could not be reached. Raises ConfigError, StoreUnavailable."""
    saved = target.save(config, grant)
    screen.kept = True
    screen.good(f"The token is kept in {saved.where}" + (" all the same" if mailbox.problem else ""))
    for remark in saved.remarks:
        screen.warn(remark)


def _page(redirect: BrowserRedirect, mailbox: Mailbox, provider: str) -> None:
    """Say in the browser how it ended."""
    if mailbox.problem is None:
        words = f"The program may use {provider} now. It has tried it out, and kept the token."
        redirect.conclude(good=True, title="You are signed in", words=words)
    else:
        words = "The token is kept, but the mailbox could not be reached yet. The terminal says what to do."
        redirect.conclude(good=None, title="Signed in, with one thing to do", words=words)


def _end(screen: Screen, mailbox: Mailbox, next_command: str) -> None:
    """Say what comes next, and leave with the exit code."""
    if mailbox.problem is None:
        screen.say()
        screen.say(f"Next: {next_command}")
        sys.exit(EXIT_OK)
    screen.say()
    screen.say("When that is done: syncer run-once --dry-run")
    sys.exit(EXIT_SIGN_IN if isinstance(mailbox.problem, AuthError) else EXIT_NOT_NOW)
