"""what is to be done later -> done, or told: jobs that survive a restart, behind the acknowledgement.

Needs SQLAlchemy, which `tables` and what stands on it import: `work`, `patience`, `opening` and `runner` can be
imported without it, and a receiver imports the rest on the thread that has the queue open.
"""

FILE_NAME = "DcmStore.queue"  # beside the ini
