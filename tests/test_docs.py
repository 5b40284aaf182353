"""The documentation is complete: every key, command, option, status and log event stands in it, and no other."""

import argparse
import re
from pathlib import Path

import pytest

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, __version__, cli, config, uids
from dcmstore.dimse.status import Status
from dcmstore.errors import CannotUnderstand, reason_of
from dcmstore.settings import KEYS, Settings, shown
from dcmstore.storage.names import NO_PATIENT_ID, folder_name

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_sample_ini_is_the_one_that_init_writes() -> None:
    assert text_of("docs/DcmStore.ini") == config.sample(), "run `make docs`"


def test_every_command_and_option_is_documented() -> None:
    documented = text_of("docs/commands.md")
    commands = next(a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(re.findall(r"`dcmstore ([a-z]+)", documented)) == set(commands.choices)
    for name, parser in commands.choices.items():
        row = next(line for line in documented.splitlines() if line.startswith(f"| `dcmstore {name}"))
        for action in parser._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert option in row, (name, option)


def test_every_status_is_in_the_conformance_statement() -> None:
    documented = set(re.findall(r"(?m)^\| ([0-9A-F]{4}) ", text_of("docs/conformance.md")))
    assert documented == {f"{status:04X}" for status in Status}


def test_the_conformance_statement_names_this_implementation() -> None:
    documented = text_of("docs/conformance.md")
    assert IMPLEMENTATION_CLASS_UID in documented
    assert f"{IMPLEMENTATION_VERSION_NAME} |" in documented
    assert f"{len(uids.STORAGE_SOP_CLASSES)} of them" in documented


def test_every_log_event_is_documented_and_no_other() -> None:
    rooms = "tls|audit|index|receiver|config|store|dicomdir|file|association|connection|context|echo|instance|request"
    rooms += "|log|worker|job|queue|study|hook|commitment|forward"
    event = rf'"((?:{rooms})\.[a-z_]+)"'
    logged = {name for source in SOURCES for name in re.findall(event, source.read_text(encoding="utf-8"))}
    first_column = "".join(re.findall(r"(?m)^\|(.*?)\|", text_of("docs/log.md")))
    assert logged == set(re.findall(r"`([a-z_]+\.[a-z_]+)`", first_column))


def test_the_defaults_in_the_documentation_are_those_of_the_code() -> None:
    defaults = {key.name: shown(getattr(Settings(), name)) for name, key in KEYS.items()}
    text = text_of("docs/conformance.md")
    for name in ("artim-timeout", "idle-timeout", "stall-timeout"):
        assert f"| `{name}` | {defaults[name]} s |" in text
    assert f"`max-pdu`, {defaults['max-pdu']} bytes by default" in text
    assert f"`max-associations`, {defaults['max-associations']} by default" in text


@pytest.mark.parametrize("row", re.findall(r"(?m)^\| `([^`]+)`[^|]*\| `([^`]+)` \|$", text_of("docs/filing.md")))
def test_the_folder_names_in_the_documentation_are_real(row: tuple[str, str]) -> None:
    value, folder = row
    assert folder_name(value.encode(), b"ISO_IR 192", NO_PATIENT_ID) == folder


@pytest.mark.parametrize(
    "page", ["README.md", "ARCHITECTURE.md", "SECURITY.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_every_link_leads_to_a_file(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text_of(page)):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_architecture_names_every_module_and_no_other() -> None:
    """A package of which no module is named stands as a whole, with `name/`."""
    page, package = text_of("ARCHITECTURE.md"), ROOT / "src/dcmstore"
    named = set(re.findall(r"[a-z0-9_/]+\.py", page))
    whole = set(re.findall(r"`([a-z0-9_]+/)`", page)) - {f"{name.rpartition('/')[0]}/" for name in named}
    modules = {source.relative_to(package).as_posix() for source in SOURCES if source.name != "__init__.py"}
    assert {name for name in modules if name.rpartition("/")[0] + "/" not in whole} == named
    assert all((package / name / "__init__.py").exists() for name in whole)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device", "/data/x"), "No space left on device"),
        (OSError("timed out"), "timed out"),
        (TimeoutError(), "TimeoutError"),
        (CannotUnderstand("no UID in it"), "no UID in it"),
    ],
)
def test_the_reason_of_an_error_is_in_words(error: Exception, expected: str) -> None:
    assert reason_of(error) == expected


def test_the_changelog_has_this_version() -> None:
    assert f"\n## {__version__} " in text_of("CHANGELOG.md")
