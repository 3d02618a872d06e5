"""The error family: each class is named by what its catcher does next.

===================  =========================================================
MessageRefused       skip this message, record why, go on with the others
NotDelivered         the call changed nothing: it may be made again
NotPermitted         of these: the lease has to be renewed first
OutcomeUnknown       the call may have worked: look before doing it again
Throttled            leave this side alone until the time it named
Unavailable          this side cannot be used now: end the cycle, blame no message
BrokenOff            of these: it ended at one message, which may be why: ask the server again
AuthError            only a person can put it right: end the cycle, exit 77
ScopeMissing         of these: the sign-in itself was good
SignInRefused        of these: try once more with a new access token
StateUnavailable     DynamoDB cannot be used: touch nothing else, exit 75
LeaseHeld            another live run is at work: leave, exit 0
LeaseLost            this run may no longer write: stop appending at once
ConfigError          the settings are wrong: name every fault, exit 78
VerbNotAllowed       a bug of ours, caught before a byte was sent
===================  =========================================================

A library's errors are translated into these at one edge (botocore in dynamodb_client,
imaplib2 in imap_session, msal and google-auth in the oauth modules). No text in
here may carry a token, an address, a subject or a body: what a server said is
passed through ``imap_utils.safe_text`` first.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncer.model import Side


class SyncError(Exception):
    """Base of what is raised on purpose; never raised itself."""


class ConfigError(SyncError):
    """The settings are wrong; ``faults`` holds one sentence for each, by setting name."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class StateUnavailable(SyncError):
    """DynamoDB cannot be reached, read or written."""


class LeaseHeld(SyncError):
    """Another run holds the lease until ``until`` (epoch seconds, by that run's clock)."""

    def __init__(self, until: float) -> None:
        super().__init__(f"another run holds the lease until {until:.0f}")
        self.until = until


class LeaseLost(SyncError):
    """The lease is no longer this run's: another run may be at work by now."""


class MessageRefused(SyncError):
    """The server answered, and its answer about this one message was no."""


class NotDelivered(SyncError):
    """The message did not reach the server: the call may be made again."""


class NotPermitted(NotDelivered):
    """It was not sent, because the lease had run out when its turn came."""


class OutcomeUnknown(SyncError):
    """The connection ended after the message may have left: the copy may be there."""


class SideError(SyncError):
    """Base of what concerns one side as a whole."""

    def __init__(self, side: Side, reason: str) -> None:
        super().__init__(f"{side}: {reason}")
        self.side = side
        self.reason = reason


class Unavailable(SideError):
    """The side cannot be used now (network, server fault, protocol broken)."""


class BrokenOff(Unavailable):
    """The connection ended while it served one message: that may be the message's fault, or chance."""


class Throttled(SideError):
    """The side asked to be left alone for ``seconds``; with ``too_fast``, because of this program's pace."""

    def __init__(self, side: Side, reason: str, seconds: float, *, too_fast: bool = False) -> None:
        super().__init__(side, reason)
        self.seconds = seconds
        self.too_fast = too_fast


class AuthError(SideError):
    """The provider refuses the grant or the sign-in; ``remedy`` says what a person has to do."""

    def __init__(self, side: Side, reason: str, remedy: str) -> None:
        super().__init__(side, reason)
        self.remedy = remedy


class ScopeMissing(AuthError):
    """A token came, and does not open mailboxes: the permission was not granted at sign-in."""


class SignInRefused(AuthError):
    """A mail server refused the access token, which may be stale: a new one is worth one try."""


class VerbNotAllowed(SyncError):
    """A command outside the allow-list of its side was about to be sent."""
