"""`dcmstore check`: settings -> each with the line it came from, and whether the machine has what `run` needs."""

import argparse
from collections.abc import Iterator

from dcmstore import needs, profile, sockets
from dcmstore.commands import original
from dcmstore.doctor import needed
from dcmstore.doctor.findings import Finding, Kind, fail, ok
from dcmstore.server import endpoints_of
from dcmstore.settings import KEYS, Settings, shown


def command(options: argparse.Namespace) -> int:
    configuration = needs.read(options.config)
    in_force = profile.in_force(configuration)
    for field_name, key in KEYS.items():
        value = shown(getattr(configuration.settings, field_name))
        print(f"{key.name + '=':20} {value:40} ({configuration.source(field_name)})")
    print()
    problems = False
    for finding in (*needed.findings(configuration, in_force), *_ports(configuration.settings)):
        problems |= finding.kind is Kind.FAIL
        print(finding)
    if original.comes_from_it(configuration):
        print("\nwhat differs from DcmStoreService (docs/migration.md has it all):")
        for text in original.differences(configuration):
            print(f"      {text}")
    return int(problems)


def _ports(settings: Settings) -> Iterator[Finding]:
    """Whether `run` could have its ports now; whether it has them already, `dcmstore doctor` finds out."""
    for endpoint in endpoints_of(settings):
        try:
            sockets.listen(endpoint.address, endpoint.port).close()
            yield ok(f"port {endpoint.port} is free")
        except OSError as error:
            yield fail(f"port {endpoint.port}: {needs.port_problem(error, endpoint.port)}", needs.PORT_ADVICE)
