"""connections -> processes that serve them: with `workers=` over 1, one process listens and others receive.

What there is one of stays with the one that listens: ports, limits, log, audit trail, DICOMDIRs and index.
"""
