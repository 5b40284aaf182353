"""a program's name -> its path: one of the system, where a Python package has put one of the same name before it."""

import os
import shutil
import sys
from pathlib import Path

_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # where PATH of a user may not lead


def find_program(name: str) -> str | None:
    """Its path, or None where it is not installed.

    What lies beside the interpreter is passed over: in an activated environment pynetdicom's storescu, storescp and
    echoscu stand before DCMTK's.
    """
    own = Path(sys.executable).parent
    folders = [folder for folder in os.get_exec_path() if Path(folder) != own]
    return shutil.which(name, path=os.pathsep.join((*folders, *_SYSTEM)))
