"""`dcmstore doctor`: an ini -> what is wrong with it, this machine or its senders, and what to do about it."""

import argparse

from dcmstore import config
from dcmstore.doctor.findings import Kind


def command(options: argparse.Namespace) -> int:
    from dcmstore.doctor.examination import examine  # half of this program, which no other command waits for

    problems = False
    for finding in examine(config.read(options.config)):
        problems |= finding.kind is Kind.FAIL
        print(finding, flush=True)
    return int(problems)
