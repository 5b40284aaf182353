"""stored instances -> studies: when all of one is presumed to have come, and when more comes after all.

Needs SQLAlchemy, which `tables` and what stands on it import: `associations`, `completeness`, `events` and `gathered`
can be imported without it, and a receiver imports the rest on the index's own thread.
"""
