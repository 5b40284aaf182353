"""`dcmstore run`: settings -> a receiver in the foreground, until a signal."""

import argparse

from dcmstore import receiver
from dcmstore.hosting import ConsoleHost


def command(options: argparse.Namespace) -> int:
    return receiver.run(options.config, ConsoleHost())
