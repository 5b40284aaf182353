"""`dcmstore where`: files -> where they would be filed, without touching anything."""

import argparse
import sys

from dcmstore import importing, needs, wiring
from dcmstore.index.printing import escaped


def command(options: argparse.Namespace) -> int:
    settings = needs.read(options.config).settings
    code = 0
    for place in importing.places(options.files, wiring.roots_of(settings), wiring.filing_policy_of(settings)):
        if place.target is None:
            print(escaped(f"dcmstore: {place.source}: {place.reason}"), file=sys.stderr)
            code = 1
        else:
            print(escaped(f"{place.source} -> {place.target}"))
    return code
