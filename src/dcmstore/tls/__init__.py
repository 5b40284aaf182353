"""DICOM over TLS (PS3.15 Annex B): settings and files -> a context -> a connection whose peer is known."""
