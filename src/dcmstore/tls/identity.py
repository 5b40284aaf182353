"""the certificate that a peer showed -> whether it may call by its AE title, and what the log says of it."""

import ipaddress
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def problem_with(shown: Sequence[str], calling_ae_title: str, names: Mapping[str, str]) -> str | None:
    """Why the peer may not call by this AE title, or None. `names` is AE title -> name in the client certificate.

    `shown` is the names in its certificate, empty without one, as on a connection without TLS. An AE title that is
    bound needs the certificate, and a certificate that is bound may call by its AE titles only.
    """
    folded = set(map(_fold, shown))
    wanted = names.get(calling_ae_title)
    if wanted is not None:
        if _fold(wanted) in folded:
            return None
        came = f"a certificate of {', '.join(shown)}" if shown else "no certificate"
        return f"tls-names binds {calling_ae_title} to a certificate of {wanted}, and {came} came"
    others = sorted(ae_title for ae_title, name in names.items() if _fold(name) in folded)
    if others:
        return f"tls-names binds the certificate of {', '.join(shown)} to {', '.join(others)}"
    return None


def description_of(connection: ssl.SSLSocket) -> str:
    """Version, cipher suite, and the name in the client certificate if one came."""
    suite = connection.cipher()
    name = next(names_of(connection), None)
    return f"{connection.version()} {suite[0] if suite else 'none'}" + (f" client={name}" if name else "")


def names_of(connection: ssl.SSLSocket) -> Iterator[str]:
    """The common name in the client certificate, then its alternative names; none without a certificate."""
    certificate: dict[str, Any] = connection.getpeercert() or {}
    for group in certificate.get("subject", ()):
        yield from (value for attribute, value in group if attribute == "commonName")
    for _, value in certificate.get("subjectAltName", ()):
        if isinstance(value, str):  # else a directory name, which has no short spelling
            yield value


def _fold(name: str) -> str:
    """Equal for names that mean the same: DNS names and addresses have several spellings."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.casefold()
