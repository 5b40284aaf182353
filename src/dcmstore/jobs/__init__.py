"""what is to be done later -> done, or told: jobs that survive a restart, behind the acknowledgement.

Needs SQLAlchemy, which `queue` imports: the rest can be imported without it.
"""
