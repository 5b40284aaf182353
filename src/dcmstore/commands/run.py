"""`dcmstore run`: settings -> a receiver in the foreground, until a signal."""

import argparse

from dcmstore import receiver
from dcmstore.service.notify import host_from_environment


def command(options: argparse.Namespace) -> int:
    return receiver.run(options.config, host_from_environment())
