"""`dcmstore init`: a folder -> a commented ini and the two root folders in it."""

import argparse
from pathlib import Path

from dcmstore import config, wiring
from dcmstore.errors import ConfigurationError, reason_of


def command(options: argparse.Namespace) -> int:
    """Make what is missing; what is there stays as it is."""
    ini: Path = options.folder / config.FILE_NAME
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        if ini.exists():
            print(f"kept    {ini}")
        else:
            ini.write_text(config.sample(), encoding="utf-8")
            print(f"made    {ini}")
        for folder in wiring.roots_of(config.read(ini).settings).values():
            print(f"{'kept' if folder.is_dir() else 'made'}    {folder}")
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: can't be made: {reason_of(error)}") from None
    return 0
