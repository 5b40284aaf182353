"""`dcmstore service`: a verb -> what the system's service manager is asked to do, and its answer in words."""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from dcmstore import config, needs, ports
from dcmstore.errors import ConfigurationError
from dcmstore.server import endpoints_of
from dcmstore.service import manager
from dcmstore.service.manager import Action, InstallOptions, NotAtWork, Plan, ServiceError, ServiceManager, State

# As the scripts of the original's users ask for: 0 for running, and what `systemctl status` returns for the others
EXIT_CODES = {State.RUNNING: 0, State.NOT_INSTALLED: 4}
NOT_RUNNING = 3


def install(options: argparse.Namespace) -> int:
    configuration = needs.read(options.config)
    needs.require_roots(configuration, are_written=False)  # by the user of the service
    wanted = InstallOptions(account=options.account, firewall=options.firewall)
    return _carry_out(lambda service: service.install(configuration, wanted), options)


def start(options: argparse.Namespace) -> int:
    return _carry_out(lambda service: service.start(), options)


def stop(options: argparse.Namespace) -> int:
    return _carry_out(lambda service: service.stop(), options)


def delete(options: argparse.Namespace) -> int:
    return _carry_out(lambda service: service.delete(), options)


def reload(options: argparse.Namespace) -> int:
    """`dcmstore reload`: the running service reads its ini again."""

    def plan(service: ServiceManager) -> Plan:
        try:
            return service.reload()
        except NotAtWork as error:
            if sys.platform == "win32":
                raise
            ini = options.config or Path(config.FILE_NAME)
            if ini.exists():
                manager.to_be_reloaded(ini)
            process = _process_of_run(ini) or "PID"
            raise NotAtWork(f"{error}. What `dcmstore run` started reads it again at `kill -HUP {process}`") from None

    return _carry_out(plan, options)


def query(options: argparse.Namespace) -> int:
    """The state in words, and as exit code: 0 running, 3 stopped, starting or stopping, 4 not installed."""
    try:
        status = manager.of_this_system().query()
    except ServiceError as error:
        return _refused(error)
    print(status.state.value + (f", with {status.ini}" if status.ini else ""))
    for fact in status.facts:
        print(f"  {fact}")
    return EXIT_CODES.get(status.state, NOT_RUNNING)


def _carry_out(make_plan: Callable[[ServiceManager], Plan], options: argparse.Namespace) -> int:
    try:
        service = manager.of_this_system()
        _require_ours(service, options)
        plan = make_plan(service)
        for action in plan.actions:
            if options.dry_run:
                print(action.text)
            else:
                _do(action)
    except ServiceError as error:
        return _refused(error)
    if plan.done:
        print(f"then it would say: {plan.done}" if options.dry_run else plan.done)
    if plan.lacking and options.dry_run:
        print(f"then it would say: {plan.lacking}")
    elif plan.lacking:
        return _refused(plan.lacking)
    return 0


def _process_of_run(ini: Path) -> str:
    """The number of the process of `dcmstore run` that has a port of this ini; nothing when none is seen."""
    with contextlib.suppress(ConfigurationError, OSError):
        for endpoint in endpoints_of(config.read(ini).settings):
            if process := re.search(r"process (\d+)", ports.owner_of(endpoint.port)):
                words = Path(f"/proc/{process[1]}/cmdline").read_bytes().split(b"\0")
                # A signal would end another program.
                if b"run" in words and any(word.rpartition(b"/")[2] == b"dcmstore" for word in words):
                    return process[1]
    return ""


def _require_ours(service: ServiceManager, options: argparse.Namespace) -> None:
    """A script of one folder shall not stop or delete the service of another, unless that folder is gone."""
    if options.command is install or options.config is None:
        return
    ini = service.query().ini
    if ini is not None and os.path.exists(ini) and os.path.realpath(ini) != os.path.realpath(options.config):
        raise ServiceError(f"the service that is installed belongs to {ini}, not to {options.config}")


def _do(action: Action) -> None:
    try:
        said = action.do()
    except ServiceError as error:
        if not action.without:
            raise
        print(f"dcmstore: {error}; {action.without}", file=sys.stderr)
        return
    if said:
        print(said, flush=True)


def _refused(words: object) -> int:
    print(f"dcmstore: {words}", file=sys.stderr)
    return 1
