"""stored files -> other AEs: what arrives is sent on as a Storage SCU, as it lies in its file (PS3.4 annex B).

Standard library only: docs/forwarding.md says what a library did with a peer that stops reading.
"""
