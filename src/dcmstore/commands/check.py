"""`dcmstore check`: settings -> each with the line it came from, and whether the machine has what `run` needs."""

import argparse
from collections.abc import Iterator

from dcmstore import config, needs, profile, sockets
from dcmstore.commands import original
from dcmstore.config import Configuration
from dcmstore.doctor import needed, port
from dcmstore.doctor.findings import Finding, Kind, fail, ok
from dcmstore.errors import ConfigurationError
from dcmstore.server import endpoints_of
from dcmstore.settings import KEYS, shown


def command(options: argparse.Namespace) -> int:
    configuration = config.read(options.config)
    in_force = profile.in_force(configuration)
    width = max(len(key.name) for key in KEYS.values()) + 1
    for field_name, key in KEYS.items():
        value = getattr(configuration.settings, field_name)
        is_line = key.spelling.is_line
        for index, line in enumerate(value if is_line and value else (value,)):
            source = configuration.source(field_name, index)
            print(f"{key.name + '=':{width}} {shown(line, is_line=is_line):40} ({source})")
    print()
    problems = False
    for finding in (*needed.findings(configuration, in_force), *_ports(configuration)):
        problems |= finding.kind is Kind.FAIL
        print(finding)
    if original.comes_from_it(configuration):
        print("\nwhat differs from DcmStoreService (docs/migration.md has it all):")
        for text in original.differences(configuration):
            print(f"      {text}")
    return int(problems)


def _ports(configuration: Configuration) -> Iterator[Finding]:
    """Whether `run` could have its ports now; whether it has them already, `dcmstore doctor` finds out."""
    for endpoint in endpoints_of(configuration.settings):
        try:
            sockets.listen(endpoint.address, endpoint.port).close()
            yield ok(f"port {endpoint.port} is free")
        except OSError as error:
            yield fail(f"port {endpoint.port}: {needs.port_problem(error, endpoint.port)}", needs.port_advice(error))
        except ConfigurationError as error:
            yield port.bind_finding(configuration, error)
