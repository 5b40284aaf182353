"""`dcmstore check`: settings -> each with the line it came from, and whether the machine has what `run` needs."""

import argparse
import shutil
from collections.abc import Iterator

from dcmstore import needs, profile, sockets, wiring
from dcmstore.commands import original
from dcmstore.config import Configuration
from dcmstore.profile import Profile
from dcmstore.settings import KEYS, shown

LOW_SPACE = 1024**3  # bytes free below which `check` warns
MOST_THREADS = 16  # `num_threads` of the original

_SR_SUB = {
    False: "every structured report goes into RDSR-DIR",
    True: "every structured report goes with the images",
}


def command(options: argparse.Namespace) -> int:
    configuration = needs.read(options.config)
    in_force = profile.in_force(configuration)
    for field_name, key in KEYS.items():
        value = shown(getattr(configuration.settings, field_name))
        print(f"{key.name + '=':20} {value:40} ({configuration.source(field_name)})")
    print()
    problems = False
    for is_fine, text in _findings(configuration, in_force):
        problems |= not is_fine
        print(f"{'ok  ' if is_fine else 'FAIL'}  {text}")
    if original.comes_from_it(configuration):
        print("\nwhat differs from DcmStoreService (docs/migration.md has it all):")
        for text in original.differences(configuration):
            print(f"      {text}")
    return int(problems)


def _findings(configuration: Configuration, in_force: Profile | None) -> Iterator[tuple[bool, str]]:
    """What `run` will need, each with whether it is there."""
    settings = configuration.settings
    for note in (*configuration.warnings, *notes(configuration), *(in_force.warnings if in_force else ())):
        yield True, f"note: {note}"
    yield True, _what_is_accepted(in_force)
    for root, folder in wiring.roots_of(settings).items():
        problem = needs.folder_problem(folder)
        if problem:
            yield False, needs.root_message(configuration, root, folder, problem)
            continue
        free = shutil.disk_usage(folder).free
        is_enough = free >= LOW_SPACE
        advice = "" if is_enough else "; make room, or the next objects are refused with A700"
        yield is_enough, f"{root.value} {folder} can be written, {free / 1024**3:.1f} GiB free{advice}"
    if (allowed := needs.open_files_allowed()) is not None:
        yield needs.open_files_finding(settings, allowed)
    try:
        sockets.listen(settings.bind, settings.port).close()
        yield True, f"port {settings.port} is free"
    except OSError as error:
        yield False, f"port {settings.port}: {needs.port_problem(error)}; {needs.PORT_ADVICE}"


def notes(configuration: Configuration) -> Iterator[str]:
    """Keys of the file that have no effect beside others, or not the one that they have in the original."""
    settings = configuration.settings

    def note(field_name: str, value: object, text: str) -> str:
        key = configuration.spellings[field_name]
        return f"{configuration.path}, line {configuration.lines[field_name]}: {key}= {shown(value)}{text}"

    is_num_threads = configuration.spellings.get("max_associations") != KEYS["max_associations"].name
    if settings.max_associations > MOST_THREADS and is_num_threads and "max_associations" in configuration.lines:
        text = f": the original stops at {MOST_THREADS}; here it is the number of associations served at once"
        yield note("max_associations", settings.max_associations, text)
    if settings.sr_sub is not None:
        text = "by the original's manual; the comment in the original's ini contradicts it"
        yield note("sr_sub", settings.sr_sub, f": {_SR_SUB[settings.sr_sub]}, {text}")
    has_reports_tree = settings.rdsr_tree and settings.sr_sub is not True
    if settings.rdsr_tree and not has_reports_tree:
        yield note("rdsr_tree", True, " has no effect while SRsub= 1, for nothing goes into RDSR-DIR")
    for field_name in ("image_name_index", "dicomdir"):
        if settings.folder_tree or not getattr(settings, field_name) or field_name in configuration.forced:
            continue
        if has_reports_tree:
            yield note(field_name, True, " only gives names in the tree of RDSR-DIR while folder-tree= 0")
        else:
            yield note(field_name, True, " has no effect while folder-tree= 0")


def _what_is_accepted(in_force: Profile | None) -> str:
    if in_force is None:
        return f"no {profile.FILE_NAME}: every SOP class and transfer syntax"
    others = [name for name in in_force.names if name != in_force.name]
    return (
        f"{in_force.path}, profile {in_force.name} (line {in_force.line}): {len(in_force.sop_classes)} SOP classes"
        + (f"; not in use: {', '.join(others)}" if others else "")
    )
