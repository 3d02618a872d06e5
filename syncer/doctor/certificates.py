"""Why a server's certificate was not accepted, told apart by what a person can do about it.

The verdict is OpenSSL's, from a handshake that verifies. What the certificate itself says (whose, for which
names, until when) only completes the sentence.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from syncer.diagnosis import Found, fail
from syncer.imap_utils import safe_text

if TYPE_CHECKING:
    from cryptography import x509

NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
SELF_SIGNED: Final = 18
WRONG_NAME: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""
_PROVIDERS: Final = (
    *(".gmail.com", ".google.com", ".googleapis.com", ".amazonaws.com"),
    *(".office365.com", ".outlook.com", ".live.com", ".microsoft.com", ".microsoftonline.com"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """Whose certificate it is."""

    host: str
    host_setting: str
    """The setting that names the host."""
    ca_setting: str
    """The variable that adds a private CA for this connection."""


def is_a_providers(host: str) -> bool:
    """Tell whether a host is Google's, Microsoft's or Amazon's."""
    return f".{host.lower()}".endswith(_PROVIDERS)


def dates_are_to_blame(error: ssl.SSLCertVerificationError) -> bool:
    """Tell whether the clock of this machine may be what is wrong."""
    return error.verify_code in (NOT_YET_VALID, EXPIRED)


def refused(error: ssl.SSLCertVerificationError, server: Server, der: bytes | None) -> Found:
    """Return what is wrong with a certificate, ``der`` if it could be had, and what mends it."""
    certificate = _parsed(der)
    clock = "set the clock of this machine"
    whose = f"the certificate of {server.host}"
    if error.verify_code == EXPIRED:
        since = f" on {certificate.not_valid_after_utc:%Y-%m-%d}" if certificate else ""
        return fail(f"{whose} has expired{since}", f"{clock} if it is wrong; else whoever runs the server renews it")
    if error.verify_code == NOT_YET_VALID:
        begins = f" before {certificate.not_valid_before_utc:%Y-%m-%d}" if certificate else ""
        return fail(f"{whose} is not valid{begins}, by the clock of this machine", clock)
    if error.verify_code in WRONG_NAME:
        names = f", but for {', '.join(_names(certificate))}" if certificate else ""
        return fail(f"the certificate is not for {server.host}{names}", f"correct {server.host_setting}")
    issuer = f", which comes from {_issuer(certificate)}," if certificate else ""
    if is_a_providers(server.host):
        return fail(
            f"{whose}{issuer} is not trusted: a company's proxy or a virus scanner reads along",
            f"name a file that holds that proxy's CA in {server.ca_setting}",
        )
    if error.verify_code == SELF_SIGNED:
        return fail(
            f"{whose} is signed by itself alone",
            f"correct {server.host_setting}; if the server is yours, name its certificate in {server.ca_setting}",
        )
    return fail(f"{whose}{issuer} is not trusted", f"name a file that holds that CA in {server.ca_setting}")


def _parsed(der: bytes | None) -> x509.Certificate | None:
    # msal, which the sign-in stands on, brings cryptography; only a refused certificate needs it here.
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(der) if der else None
    except ValueError:
        return None


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the first few names that a certificate is for."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    except (ValueError, x509.ExtensionNotFound):
        names = []
    return [safe_text(name, 60) for name in names[:3]] or ["no name at all"]


def _issuer(certificate: x509.Certificate) -> str:
    """Return who made a certificate, in its own words."""
    from cryptography.x509.oid import NameOID

    try:
        for kind in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
            for attribute in certificate.issuer.get_attributes_for_oid(kind):
                return f'"{safe_text(str(attribute.value), 60)}"'
    except ValueError:
        pass
    return "nobody named"
