"""stored files -> DICOMDIR: the directory of a patient's folder, kept up to date behind the acknowledging path.

A DICOMDIR is derived: what it says can be read again from the files, so nothing here may delay or fail a store,
and an update makes it agree with the folder whatever happened before. `update` does one folder, now; `Updater`
gathers what associations bring and writes each folder as seldom as keeps the whole cheap.

Needs pydicom (3.0 or newer), which `data_sets` alone imports: import this where `dicomdir= 1`, and call `require`
first.
"""

from dcmstore.dicomdir.data_sets import require
from dcmstore.dicomdir.folder import Updated, update
from dcmstore.dicomdir.kinds import kind_of
from dcmstore.dicomdir.updater import Updater

__all__ = ["Updated", "Updater", "kind_of", "require", "update"]
