"""settings -> whether the machine has what `run` needs, the port aside; `dcmstore check` tells the same."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from dcmstore import needs, profile, users, wiring
from dcmstore.config import Configuration
from dcmstore.doctor.findings import Finding, Kind, fail, note, ok
from dcmstore.errors import ConfigurationError
from dcmstore.profile import Profile
from dcmstore.settings import KEYS, Settings, shown
from dcmstore.storage.filing import Root
from dcmstore.storage.space import MEGABYTE
from dcmstore.tls import context

GIGABYTE = 1024 * MEGABYTE
LOW_SPACE = GIGABYTE  # bytes left to use, below which it is time to make room
MOST_THREADS = 16  # `num_threads` of the original

_SR_SUB = {
    False: "every structured report goes into RDSR-DIR",
    True: "every structured report goes with the images",
}


def findings(configuration: Configuration, in_force: Profile | None) -> Iterator[Finding]:
    settings = configuration.settings
    for text in (*configuration.warnings, *notes(configuration), *(in_force.warnings if in_force else ())):
        yield note(text)
    yield ok(_what_is_accepted(in_force))
    if wiring.wants_dicomdir(settings):
        yield from _dicomdir_findings()
    for root, folder in wiring.roots_of(settings).items():
        yield _root_finding(configuration, root, folder)
    for look in (_tls_findings, _users_findings):
        try:
            yield from look(settings)
        except ConfigurationError as error:
            yield fail(str(error))
    if (allowed := needs.open_files_allowed()) is not None:
        is_fine, text = needs.open_files_finding(settings, allowed)
        yield Finding(Kind.OK if is_fine else Kind.FAIL, text)


def _dicomdir_findings() -> Iterator[Finding]:
    from dcmstore import dicomdir  # and with it pydicom, which nobody else needs

    try:
        dicomdir.require()
    except ConfigurationError as error:
        yield fail(str(error))


def _tls_findings(settings: Settings) -> Iterator[Finding]:
    tls_settings = wiring.tls_settings_of(settings)
    if tls_settings is None:
        return
    context.context_of(tls_settings)
    end = context.end_of(tls_settings)
    yield ok(f"tls-certificate {tls_settings.certificate} and its key can be used, until {end:%Y-%m-%d}")
    for text in context.notes_of(tls_settings):
        yield note(text)


def _users_findings(settings: Settings) -> Iterator[Finding]:
    if settings.users is not None:
        names = users.read(settings.users).names
        yield ok(f"users {settings.users}: {len(names)} {'user' if len(names) == 1 else 'users'}")


def _root_finding(configuration: Configuration, root: Root, folder: Path) -> Finding:
    if problem := needs.folder_problem(folder):
        is_said = not folder.exists()  # what to do then stands in the message
        advice = "" if is_said else "name another folder, or let the user that runs dcmstore write there"
        return fail(needs.root_message(configuration, root, folder, problem), advice)
    free = shutil.disk_usage(folder).free
    text = f"{root.value} {folder} can be written, {free / GIGABYTE:.1f} GiB free"
    kept_free = _kept_free(configuration.settings, root)
    if free < kept_free:
        least = f"min-free-space= {configuration.settings.min_free_space} MB"
        return fail(text, f"make room: with less than {least}, images are refused with A700")
    if free < kept_free + LOW_SPACE:
        return fail(text, "make room, or the next objects are refused with A700")
    return ok(text)


def _kept_free(settings: Settings, root: Root) -> int:
    """Bytes that images may not use; dose reports may."""
    return settings.min_free_space * MEGABYTE if root is Root.IMAGES else 0


def notes(configuration: Configuration) -> Iterator[str]:
    """Keys of the file that have no effect beside others, or not the one that they have in the original."""
    settings = configuration.settings

    def about(field_name: str, value: object, text: str) -> str:
        key = configuration.spellings[field_name]
        return f"{configuration.path}, line {configuration.lines[field_name]}: {key}= {shown(value)}{text}"

    is_num_threads = configuration.spellings.get("max_associations") != KEYS["max_associations"].name
    if settings.max_associations > MOST_THREADS and is_num_threads and "max_associations" in configuration.lines:
        text = f": the original stops at {MOST_THREADS}; here it is the number of associations served at once"
        yield about("max_associations", settings.max_associations, text)
    if settings.sr_sub is not None:
        text = "by the original's manual; the comment in the original's ini contradicts it"
        yield about("sr_sub", settings.sr_sub, f": {_SR_SUB[settings.sr_sub]}, {text}")
    has_reports_tree = settings.rdsr_tree and settings.sr_sub is not True
    if settings.rdsr_tree and not has_reports_tree:
        yield about("rdsr_tree", True, " has no effect while SRsub= 1, for nothing goes into RDSR-DIR")
    for field_name in ("image_name_index", "dicomdir"):
        if settings.folder_tree or not getattr(settings, field_name) or field_name in configuration.forced:
            continue
        if has_reports_tree:
            yield about(field_name, True, " only gives names in the tree of RDSR-DIR while folder-tree= 0")
        else:
            yield about(field_name, True, " has no effect while folder-tree= 0")


def _what_is_accepted(in_force: Profile | None) -> str:
    if in_force is None:
        return f"no {profile.FILE_NAME}: every SOP class and transfer syntax"
    others = [name for name in in_force.names if name != in_force.name]
    return (
        f"{in_force.path}, profile {in_force.name} (line {in_force.line}): {len(in_force.sop_classes)} SOP classes"
        + (f"; not in use: {', '.join(others)}" if others else "")
    )
