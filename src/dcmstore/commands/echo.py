"""`dcmstore echo`: a peer -> whether it answers a C-ECHO."""

import argparse
import sys

from dcmstore import scu
from dcmstore.errors import ConfigurationError


def command(options: argparse.Namespace) -> int:
    if not 1 <= options.port <= 65535:
        raise ConfigurationError(f"PORT {options.port}: allowed is 1 to 65535")
    peer = scu.Peer(
        host=options.host,
        port=options.port,
        called_ae_title=options.called,
        calling_ae_title=options.calling,
        timeout=options.timeout,
    )
    try:
        seconds = scu.echo(peer)
    except scu.ScuFailed as error:
        print(f"dcmstore: {error}", file=sys.stderr)
        return 1
    print(f"{options.called} at {options.host} port {options.port} answered in {seconds * 1000:.1f} ms")
    return 0
