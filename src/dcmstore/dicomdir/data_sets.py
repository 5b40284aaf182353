"""bytes <-> data sets: pydicom, where it is installed, and a fence around what it raises.

The other rooms take the name `pydicom` from here and use it only inside functions: they can be imported without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dcmstore.errors import CannotUnderstand, ConfigurationError, install_with

try:
    import pydicom
    import pydicom.config
    import pydicom.datadict
    import pydicom.filebase
    import pydicom.filereader
    import pydicom.fileset
    import pydicom.filewriter
except ImportError:
    pydicom = None  # type: ignore[assignment]

__all__ = ["encode", "fill", "guarded", "pydicom", "require", "text"]


def require() -> None:
    """Raise ConfigurationError where what `dicomdir= 1` needs is not installed."""
    if pydicom is None or int(pydicom.__version__.partition(".")[0]) < 3:
        raise ConfigurationError(f"dicomdir= 1: needs pydicom 3; {install_with('pydicom>=3.0')}")


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """A fence: on bytes that contradict themselves pydicom raises whatever it runs into, without a common class."""
    try:
        yield
    except (OSError, CannotUnderstand):
        raise
    except Exception as error:
        raise CannotUnderstand(f"{type(error).__name__}: {error}") from error


def encode(data_set: pydicom.Dataset) -> bytes:
    """The elements of a data set in Explicit VR Little Endian."""
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    pydicom.filewriter.write_dataset(buffer, data_set)
    return buffer.getvalue()


def text(data_set: pydicom.Dataset, keyword: str) -> str:
    """A value as text; one that can't be decoded counts as missing."""
    with contextlib.suppress(CannotUnderstand), guarded():
        value = data_set.get(keyword)
        setattr(pydicom.Dataset(), keyword, value)  # what pydicom returns undecoded, it refuses here
        return "" if value is None else str(value).strip(" \0")
    return ""


def fill(data_set: pydicom.Dataset, keyword: str, substitute: str) -> None:
    """Give an attribute a value if it has none, or none that can be decoded."""
    if not text(data_set, keyword):
        data_set.add_new(keyword, pydicom.datadict.dictionary_VR(keyword), substitute)
