"""What tests of TLS need: a certification authority of one's own, what it issues, and what it takes back.

Keys are of 256 bits on an elliptic curve, which are made in no time; `rsa_key` is for the cipher suites of RSA.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
YEAR = 365 * DAY

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def ec_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits: int = 2048) -> Key:
    return rsa.generate_private_key(65537, bits)


def pem_of_key(key: Key, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, with the certificates that lead to the authority."""

    certificate: x509.Certificate
    key: Key
    intermediates: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The chain, the certificate itself first."""
        return b"".join(map(pem_of, (self.certificate, *self.intermediates)))

    @property
    def key_pem(self) -> bytes:
        return pem_of_key(self.key)

    def save(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `name.pem` and `name.key`; return their paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)
        key.chmod(0o600)
        return certificate, key


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class Authority:
    """Issues and revokes. Times are distances from now."""

    def __init__(
        self,
        name: str = "Test CA",
        parent: "Authority | None" = None,
        *,
        begins: timedelta = -DAY,
        ends: timedelta = 10 * YEAR,
    ) -> None:
        self.key = ec_key()
        self._parent = parent
        issuer = parent or self
        builder = _builder(name, issuer.certificate.subject if parent else _name(name), self.key, begins, ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate: x509.Certificate = builder.sign(issuer.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return pem_of(self.certificate)

    def issue(
        self,
        name: str,
        *,
        names: Sequence[str] = (),
        begins: timedelta = -DAY,
        ends: timedelta = YEAR,
        key: Key | None = None,
        usage: Sequence[x509.ObjectIdentifier] = (SERVER, CLIENT),
    ) -> Issued:
        """A certificate with a common name, and alternative names that are addresses, e-mail addresses or DNS names."""
        key = key or ec_key()
        builder = _builder(name, self.certificate.subject, key, begins, ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key, (self.certificate,) if self._parent else ())

    def revocation_list(
        self, revoked: Iterable[Issued] = (), *, begins: timedelta = -DAY, ends: timedelta = 30 * DAY
    ) -> bytes:
        """The PEM of a CRL."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now + begins).next_update(now + ends)
        for issued in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(issued.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now - DAY).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(name: str, issuer: x509.Name, key: Key, begins: timedelta, ends: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _name(common_name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Hospital")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.RFC822Name(name) if "@" in name else x509.DNSName(name)
