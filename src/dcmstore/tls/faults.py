"""what OpenSSL says of a failed handshake -> who has to do what, in one line for the log."""

import ssl

_HANDSHAKE, _A_ASSOCIATE_RQ = 0x16, 0x01  # the first byte of TLS (RFC 8446 5.1), and of plain DICOM (PS3.8 9.3.2)

_USE_OTHER_PORT = "switch TLS on at the sender, or let it send to the port without TLS"
_ASK_SENDER = "its administrator has to look why"

# What is wrong with a client certificate, by the number of OpenSSL (x509_vfy.h)
_VERIFY = {
    3: "tls-crl has no list of the authority that issued the sender's certificate: add its list",
    7: "the sender's certificate is forged or damaged: its signature is not that of an authority in tls-ca",
    9: "the sender's certificate is not valid yet: look at the clocks of both machines",
    10: "the sender's certificate, or its authority's, has expired: its administrator has to get a new one",
    11: "a list in tls-crl is not valid yet: look at the clock of this machine",
    12: "a list in tls-crl has expired: put a newer one in its place",
    18: "the sender's certificate is signed by itself and is not in tls-ca: add it there if you trust it",
    19: "the sender's certificate is of an authority that is not in tls-ca: add that authority if you trust it",
    20: "the sender's certificate is of an authority that is not in tls-ca: add that authority if you trust it, "
    "or let the sender send the certificates in between too",
    23: "the sender's certificate is revoked in tls-crl: its administrator has to get a new one",
    24: "the sender's certificate was issued by what is no authority: its administrator has to get a new one",
    26: "the sender's certificate is not made for clients (extended key usage): its administrator has to get a new one",
    66: "the key of the sender's certificate is too short: its administrator has to get a new one",
    67: "the key of the authority of the sender's certificate is too short: its administrator has to get a new one",
    68: "the signature of the sender's certificate is too weak, such as SHA-1: its administrator has to get a new one",
}
_VERIFY |= {
    2: _VERIFY[20],
    21: _VERIFY[20],
    79: _VERIFY[24],
}

_TRUST_US = (
    "enter at the sender the authority that issued tls-certificate; "
    "certificates in between belong into tls-certificate, behind our own"
)
_OLD_TLS = "the sender offers no TLS 1.2 or newer: it has to be updated, or to send to the port without TLS"
_NO_CIPHER = (
    "the sender offers no cipher suite of tls-profile for the kind of key that tls-certificate has: "
    "keys of RSA suit most senders, else it has to be updated"
)

# Reasons of OpenSSL (sslerr.h); ALERT is what the peer sent us
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the sender has no client certificate, and tls-client= required: "
    "give it one, or set tls-client= optional",
    "UNSUPPORTED_PROTOCOL": _OLD_TLS,
    "VERSION_TOO_LOW": _OLD_TLS,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD_TLS,
    "NO_SHARED_CIPHER": _NO_CIPHER,
    "NO_SHARED_SIGNATURE_ALGORITHMS": _NO_CIPHER,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": _NO_CIPHER,
    "NO_SUITABLE_KEY_SHARE": "the sender and we have no elliptic curve in common: it has to be updated",
    "NO_SHARED_GROUPS": "the sender and we have no elliptic curve in common: it has to be updated",
    "TLSV1_ALERT_UNKNOWN_CA": f"the sender does not know the authority of our certificate: {_TRUST_US}",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": f"the sender does not accept our certificate: {_TRUST_US}",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the sender does not accept our certificate, for instance because of the host name "
    f"in it: {_ASK_SENDER}",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": f"the sender can't use the kind of certificate that we have: {_ASK_SENDER}",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the sender finds our certificate expired: renew tls-certificate, "
    "or look at the sender's clock",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the sender finds our certificate revoked: renew tls-certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": f"the sender finds no cipher suite or certificate that it can use: {_ASK_SENDER}",
}

_CLOSED = (
    "the sender closed the connection in the middle of the TLS handshake: "
    f"perhaps it does not accept our certificate; {_ASK_SENDER}"
)


def of_first_byte(first: bytes) -> str:
    """What is wrong with the first byte that came, or none; nothing for that of a handshake."""
    if not first:
        return "the peer closed the connection without a byte"
    if first[0] == _HANDSHAKE:
        return ""
    what = "plain DICOM" if first[0] == _A_ASSOCIATE_RQ else f"something that is not TLS (first byte {first[0]:02X}H)"
    return f"{what} came to tls-port: {_USE_OTHER_PORT}"


def of_handshake(error: ssl.SSLError) -> str:
    """What went wrong, and who has to do what."""
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _VERIFY.get(error.verify_code)
        return known or f"the sender's certificate is not accepted: {error.verify_message}"
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _CLOSED
    return _REASONS.get(error.reason) or f"the TLS handshake failed: {phrase(error)}"


def phrase(error: ssl.SSLError) -> str:
    """OpenSSL's own words, without its numbers."""
    return (error.reason or str(error).partition(" (")[0]).replace("_", " ").lower()
