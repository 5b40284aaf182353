"""a request for commitment -> a report of what is kept for good: the Push Model as SCP (PS3.4 annex J).

The request is promised an answer as soon as it is in the queue, and a job checks and reports, for days if it must.

Needs SQLAlchemy, which `lookup` imports: a receiver imports it with the first job.
"""

from dcmstore.jobs import patience

SOP_CLASS = "1.2.840.10008.1.20.1"  # Storage Commitment Push Model (PS3.4 J.3.5)
SOP_INSTANCE = "1.2.840.10008.1.20.1.1"  # the only one there is, well known (PS3.4 J.3.5)
JOB_KIND = patience.COMMITMENT
