"""DICOM over TLS (PS3.15 Annex B): settings and files -> a context -> a connection whose peer is known."""

from dcmstore.tls.context import CLIENTS, PROFILES, TlsSettings, context_of, notes_of
from dcmstore.tls.identity import binds, description_of, problem_of
from dcmstore.tls.renewal import Renewal
from dcmstore.tls.transport import TlsError, TlsSocket, accept, shake_hands, wrap

__all__ = [
    "CLIENTS",
    "PROFILES",
    "Renewal",
    "TlsError",
    "TlsSettings",
    "TlsSocket",
    "accept",
    "binds",
    "context_of",
    "description_of",
    "notes_of",
    "problem_of",
    "shake_hands",
    "wrap",
]
