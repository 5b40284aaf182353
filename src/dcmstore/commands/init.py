"""`dcmstore init`: a folder -> a commented ini and the two root folders in it."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from dcmstore import config, wiring
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.storage import files


def command(options: argparse.Namespace) -> int:
    """Make what is missing; what is there stays as it is."""
    ini: Path = options.folder / config.FILE_NAME
    _make(options.folder, Path.is_dir, _folder)
    print(f"{_make(ini, Path.exists, _sample)}    {ini}")
    for folder in wiring.roots_of(config.read(ini).settings).values():
        print(f"{_make(folder, Path.is_dir, _folder)}    {folder}")
    return 0


def _make(path: Path, is_there: Callable[[Path], bool], make: Callable[[Path], None]) -> str:
    """`made` or `kept`. Raises ConfigurationError."""
    try:
        if is_there(path):
            return "kept"
        make(path)
    except OSError as error:
        advice = wiring.advice_on_writing(error)
        raise ConfigurationError(f"{path}: can't be made: {reason_of(error)}; {advice}") from None
    return "made"


def _folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def _sample(path: Path) -> None:
    files.write_whole(os.path.abspath(path), config.sample().replace("\n", os.linesep).encode())
