"""stored files -> a database that can be asked: what came, from whom, when, and is it still as it was.

The index is derived: a walk over the root folders finds whatever it lacks, so nothing here may delay or fail a store.

Needs SQLAlchemy, which `tables` and what stands on it import: `notes`, `entries`, `mark`, `indexer`, `times` and
`printing` can be imported without it, and a receiver imports the rest on the index's own thread.
"""

from dcmstore.errors import ConfigurationError, install_with


def require(who: str) -> None:
    """Raise ConfigurationError where what the index needs is not installed; imports nothing."""
    import importlib.util  # at the start of a receiver without an index, every millisecond is for nothing

    if importlib.util.find_spec("sqlalchemy") is None:
        raise ConfigurationError(f"{who}: needs SQLAlchemy 2; {install_with('sqlalchemy>=2.0')}")
