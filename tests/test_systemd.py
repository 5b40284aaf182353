"""The Linux service: the text of its unit, judged by systemd's own programs, and what each verb asks systemd to do.

`make test-systemd` lives the whole life of the service on a machine that systemd has booted.
"""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dcmstore import config
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError
from dcmstore.hosting import stop_seconds
from dcmstore.service import rights, unit
from dcmstore.service.manager import InstallOptions, NotAtWork, Plan, ServiceError, State, Status
from dcmstore.service.rights import Account
from dcmstore.service.systemd import SystemdManager
from dcmstore.service.unit import UNIT_NAME, Program, Record
from dcmstore.settings import Settings

PROGRAM = Program(command=("/bin/true", "-P", "-m", "dcmstore"), folders=(Path("/opt/dcmstore"),), kill="/bin/kill")
RECORD = Record(ini="/srv/dicom/DcmStore.ini", user="daemon", made_user=False)


def configured(ini: str = "/srv/dicom/DcmStore.ini", **values: object) -> Configuration:
    roots = {"img_dir": Path("/srv/dicom/received/images"), "rdsr_dir": Path("/srv/dicom/received/rdsr")}
    return Configuration(Path(ini), Settings(**{**roots, **values}), {}, {}, {}, ())  # type: ignore[arg-type]


def text_of(configuration: Configuration, systemd: int = 252, record: Record = RECORD) -> str:
    return unit.text(configuration, PROGRAM, systemd, record)


def values_of(text: str, key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", text)


# --- the text of the unit ------------------------------------------------------------------------

VARIANTS = {
    "as init makes it": configured(),
    "a port below 1024": configured(port=104),
    "everything in a home": configured(
        "/home/anna/my dicom/DcmStore.ini", img_dir=Path("/home/anna/images"), rdsr_dir=Path("/home/anna/rdsr")
    ),
    "no file written beside the ini": configured(logfile=False),
    "a DICOMDIR": configured(dicomdir=True, stop_timeout=600, max_associations=10_000),
}


def analyzed(folder: Path, text: str, *words: str, **environment: str) -> str:
    path = folder / UNIT_NAME
    path.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", *words, str(path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.interop("systemd-analyze")
@pytest.mark.parametrize("variant", VARIANTS)
def test_systemd_finds_nothing_to_say_about_the_unit(variant: str, tmp_path: Path) -> None:
    assert analyzed(tmp_path, text_of(VARIANTS[variant]), "verify", "--man=no") == ""


@pytest.mark.interop("systemd-analyze")
@pytest.mark.parametrize("variant", VARIANTS)
def test_systemd_rates_the_exposure_below_two(variant: str, tmp_path: Path) -> None:
    told = analyzed(tmp_path, text_of(VARIANTS[variant]), "security", "--offline=true", "--no-pager")
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert match, told
    assert float(match[1]) < 2.0


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/")
    | st.sampled_from(" %\"'\\$:#;{}"),
    min_size=1,
    max_size=30,
).filter(lambda name: name not in (".", "..") and name.isprintable())


@pytest.mark.interop("systemd-analyze")
@given(NAMES, NAMES)
@example("%h $HOME ${HOME} %%", "a\\\\x41 \"b\" 'c':d #;%n")
@hypothesis_settings(max_examples=40)
def test_systemd_reads_every_path_as_it_is(tmp_path_factory: pytest.TempPathFactory, name: str, other: str) -> None:
    folder, hidden = Path("/srv") / name, Path("/home") / other
    configuration = configured(str(folder / "DcmStore.ini"), img_dir=folder / "images", rdsr_dir=hidden)
    read = analyzed(
        tmp_path_factory.mktemp("unit"), text_of(configuration), "verify", "--man=no", SYSTEMD_LOG_LEVEL="debug"
    )
    assert f"\tReadWritePaths: -{folder}\n" in read
    assert f"\tBindPaths: -{hidden}:{hidden}:rbind\n" in read
    assert f"\tRequiresMountsFor: {folder} " in read
    assert f"\tRequiresMountsFor: {hidden} " in read
    (command,) = re.findall(r"Command Line: (/bin/true .*)\n", read)  # quoted for a shell
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    last = words.stdout.splitlines()[-1]
    assert last == f"{folder}/DcmStore.ini".replace("$", "$$"), "$$ becomes $ at the start"


@pytest.mark.parametrize("name", ["two\nlines", "bell\a", "byte\udcff"])
def test_a_path_that_can_not_stand_in_a_unit_is_a_configuration_error(name: str) -> None:
    with pytest.raises(ConfigurationError, match="printable"):
        text_of(configured(img_dir=Path("/srv") / name))


@given(
    st.builds(
        Record,
        ini=st.text(st.characters(exclude_categories=("C",))),
        user=st.just("dcmstore"),
        made_user=st.booleans(),
        were=st.lists(st.tuples(st.text(), st.integers(0, 1000), st.integers(0, 0o7777))).map(tuple),
    )
)
def test_a_unit_carries_what_install_did(record: Record) -> None:
    text = text_of(configured(), record=record)
    assert unit.record_of(text) == record
    assert text.count("\n") == text_of(configured()).count("\n"), "the record is one line"


def test_a_unit_of_somebody_else_has_no_record() -> None:
    assert unit.record_of("[Service]\nExecStart=/bin/true\n") is None


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"port": 104}, ["CAP_NET_BIND_SERVICE"]),
        ({"tls_port": 1023}, ["CAP_NET_BIND_SERVICE"]),
        ({"port": 1024}, []),
        ({"port": 0}, []),
    ],
)
def test_only_a_port_below_1024_gives_a_capability(values: dict[str, int], wanted: list[str]) -> None:
    text = text_of(configured(**values))
    assert values_of(text, "AmbientCapabilities") == wanted
    assert values_of(text, "CapabilityBoundingSet") == (wanted or [""])


def test_limits_follow_the_settings() -> None:
    text = text_of(configured(stop_timeout=600, max_associations=1000))
    assert values_of(text, "TimeoutStopSec") == [f"{stop_seconds(600):g}"] == ["1240"]
    assert values_of(text, "KillMode") == ["mixed"]  # hooks are ended by the receiver, once they had their time
    assert values_of(text, "LimitNOFILE") == [f"{unit.needs.open_files_of(Settings(max_associations=1000))}:524288"]
    assert values_of(text, "UMask") == [f"{Settings().permissions.umask:04o}"] == ["0027"]


@pytest.mark.parametrize(
    ("release", "first", "last"), [(252, ["10"], []), (253, ["10"], []), (254, ["5"], ["60"]), (257, ["5"], ["60"])]
)
def test_the_time_to_the_next_start_grows_where_systemd_can(release: int, first: list[str], last: list[str]) -> None:
    text = text_of(configured(), release)
    assert values_of(text, "RestartSec") == first
    assert values_of(text, "RestartMaxDelaySec") == last
    assert values_of(text, "StartLimitIntervalSec") == ["0"]


def test_only_the_data_the_log_and_the_journal_can_be_written() -> None:
    roots = {"img_dir": Path("/data/images"), "rdsr_dir": Path("/data/rdsr")}
    assert values_of(text_of(configured(**roots)), "ReadWritePaths") == ["-/data/images -/data/rdsr -/srv/dicom"]
    quiet = text_of(configured(**roots, logfile=False))
    assert values_of(quiet, "ReadWritePaths") == ["-/data/images -/data/rdsr"]
    assert values_of(quiet, "ProtectHome") == ["yes"]
    assert values_of(quiet, "BindPaths") == values_of(quiet, "BindReadOnlyPaths") == []


def test_the_folders_that_hooks_copy_to_can_be_written() -> None:
    roots = {"img_dir": Path("/data/images"), "rdsr_dir": Path("/data/rdsr")}
    hooks = ("copy to /srv/all", "[modality=CT] copy to /srv/ct", "/usr/bin/true {path}", "[ae=X] copy to /srv/all")
    text = text_of(configured(**roots, logfile=False, on_stored=hooks, on_study_complete=("copy to /srv/studies",)))
    writable = "-/data/images -/data/rdsr -/srv/all -/srv/ct -/srv/studies"
    assert values_of(text, "ReadWritePaths") == [writable]


@pytest.mark.parametrize("values", [{"logfile": True}, {"dicomdir": True}, {"audit": "file"}, {"index": True}])
def test_the_folder_of_the_ini_can_be_written_when_something_is_written_there(values: dict[str, object]) -> None:
    text = text_of(configured(**{"logfile": False, **values}))
    assert values_of(text, "ReadWritePaths") == ["-/srv/dicom"]


def test_what_lies_in_a_home_or_in_tmp_is_let_in_alone() -> None:
    program = replace(PROGRAM, folders=(Path("/home/anna/venv"), Path("/usr")))
    configuration = configured(
        "/tmp/dicom/DcmStore.ini",
        logfile=False,
        img_dir=Path("/home/anna/images"),
        rdsr_dir=Path("/data/rdsr"),
        tls_key=Path("/root/key.pem"),
    )
    text = unit.text(configuration, program, 252, RECORD)
    assert values_of(text, "ProtectHome") == ["tmpfs"]
    assert values_of(text, "BindPaths") == ["-/home/anna/images"]
    assert values_of(text, "ReadWritePaths") == ["-/data/rdsr"]
    (readable,) = values_of(text, "BindReadOnlyPaths")
    assert sorted(readable.split()) == ["-/home/anna/venv", "-/root/key.pem", "-/tmp/dicom"]


def test_a_symbolic_link_is_let_in_with_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    text = text_of(configured(img_dir=tmp_path / "link"))
    (mounts,) = values_of(text, "RequiresMountsFor")
    assert {str(tmp_path / "link"), str(tmp_path / "real")} <= set(mounts.split())


# --- what the user of the service may do ----------------------------------------------------------

NOBODY_YET = Account("dcmstore", "dcmstore")


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    """A folder as `init` makes it, closed to others."""
    folder = tmp_path / "dicom"
    for path in (folder, folder / "received", folder / "received/images", folder / "received/rdsr"):
        path.mkdir()
        path.chmod(0o750)
    (folder / "DcmStore.ini").write_text("port= 11112\n")
    (folder / "DcmStore.ini").chmod(0o640)
    return folder / "DcmStore.ini"


def missing(ini: Path, account: Account = NOBODY_YET) -> rights.Rights:
    return rights.missing(config.read(ini), replace(PROGRAM, folders=()), account)


def test_a_folder_of_its_own_is_opened_and_its_empty_roots_are_given(ini: Path) -> None:
    folder = str(ini.parent)
    found = missing(ini)
    assert found.commands == [
        ("chgrp", "dcmstore", folder),
        ("chmod", "g+rwx,+t", folder),
        ("chgrp", "dcmstore", f"{folder}/DcmStore.ini"),
        ("chmod", "g+r", f"{folder}/DcmStore.ini"),
        ("chgrp", "dcmstore", f"{folder}/received"),
        ("chmod", "g+x", f"{folder}/received"),
        ("chown", "dcmstore:", f"{folder}/received/images"),
        ("chown", "dcmstore:", f"{folder}/received/rdsr"),
    ]
    assert found.advice == []


def test_delete_shuts_what_install_opened(ini: Path) -> None:
    before = {path: path.stat().st_mode for path in (ini.parent, ini, ini.parent / "received")}
    found = missing(ini)
    for command in found.commands:
        if command[0] == "chmod":
            subprocess.run(command, check=True)
    assert {path: path.stat().st_mode for path in before} != before
    undone = rights.undo(Record(ini=str(ini), user="dcmstore", made_user=True, were=tuple(found.were)))
    for command in undone:
        subprocess.run(command, check=True)
    assert {path: path.stat().st_mode for path in before} == before


def test_the_oldest_state_is_the_one_that_comes_back(ini: Path) -> None:
    were = ((str(ini), 0, 0o600), (str(ini), 0, 0o644), (f"{ini}.gone", 0, 0o644))
    undone = rights.undo(Record(ini=str(ini), user="dcmstore", made_user=True, were=were))
    assert undone[-1] == ("chmod", "0600", str(ini))
    assert not any(f"{ini}.gone" in command for command in undone)


def test_a_root_that_holds_files_is_left_alone(ini: Path) -> None:
    images = ini.parent / "received/images"
    (images / "PAT1").mkdir()
    found = missing(ini)
    assert not any(str(images) in command for command in found.commands)
    assert [line for line in found.advice if line.endswith(f": sudo chown -R dcmstore: {images}")]


def test_a_folder_that_hooks_copy_to_is_opened_or_what_would_do_is_told(ini: Path, tmp_path: Path) -> None:
    own, other = ini.parent / "copies", tmp_path / "other" / "copies"
    for folder in (own, other.parent, other):
        folder.mkdir()
        folder.chmod(0o700)
    ini.write_text(f"index= 1\non-stored= copy to {own}\non-stored= copy to {other}\n")
    found = missing(ini)
    assert ("chmod", "g+rwx", str(own)) in found.commands
    assert ("chmod", "g+rwx,+t", str(ini.parent)) in found.commands
    do = f"sudo chgrp dcmstore {other} && sudo chmod g+rwx {other}"
    assert f"the user dcmstore can't copy into {other}: {do}" in found.advice
    unit_hides = unit.is_hidden(other.parent)
    assert unit_hides or [line for line in found.advice if f"can't pass through {other.parent}: " in line]


def test_a_folder_with_other_things_is_not_opened(ini: Path) -> None:
    (ini.parent / "thesis.odt").touch()
    found = missing(ini)
    assert not any(command[0] in ("chgrp", "chmod") for command in found.commands)
    assert any("put DcmStore.ini into a folder of its own" in line for line in found.advice)
    assert any(f"sudo chgrp dcmstore {ini} && sudo chmod g+r {ini}" in line for line in found.advice)


NAMED = {"tls-certificate": "cert.pem", "tls-key": "tls/key.pem", "tls-ca": "ca.pem", "tls-crl": "crl", "users": "who"}


def test_what_the_ini_names_and_profiles_belong_into_its_folder(ini: Path) -> None:
    ini.write_text("".join(f"{key}= {name}\n" for key, name in NAMED.items()))
    (ini.parent / "tls").mkdir(0o700)
    names = [*NAMED.values(), "PresContextCfg.ini", "PresContext.ini"]
    for name in names:
        (ini.parent / name).touch(0o600)
    found = missing(ini)
    assert found.advice == []
    for name in names:
        assert ("chgrp", "dcmstore", f"{ini.parent}/{name}") in found.commands
        assert ("chmod", "g+r", f"{ini.parent}/{name}") in found.commands, "and nobody but the group"
    assert ("chmod", "g+x", f"{ini.parent}/tls") in found.commands


def test_what_a_link_leads_to_elsewhere_is_not_opened(ini: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch(0o600)
    (ini.parent / "key.pem").symlink_to(tmp_path / "key.pem")
    ini.write_text("tls-key= key.pem\n")
    found = missing(ini)
    assert not any(f"{ini.parent}/key.pem" in command for command in found.commands)
    assert [line for line in found.advice if f"can't read {ini.parent}/key.pem: sudo chgrp" in line]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root tries as another user")
@pytest.mark.parametrize(("mode", "may"), [(0o700, False), (0o755, True)])
def test_root_tries_as_that_user(tmp_path: Path, mode: int, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "is_hidden", lambda _: False)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ini").touch(0o644)
        Path(folder).chmod(mode)
        assert Account.named("nobody").can(rights.READ, Path(folder) / "ini") is may


@pytest.mark.parametrize("name", ["DcmStore.log", "DcmStore.index", "DcmStore.index-wal", "DcmStore.queue"])
def test_what_another_user_has_written_beside_the_ini_is_given(ini: Path, name: str) -> None:
    written = ini.parent / name
    written.touch(0o600)
    assert ("chown", "dcmstore:", str(written)) in missing(ini).commands


def test_who_owns_everything_needs_nothing(ini: Path) -> None:
    owner = Account("me", "mine", ini.stat().st_uid, frozenset({ini.stat().st_gid}))
    assert missing(ini, owner) == rights.Rights()


@pytest.mark.parametrize(
    ("mode", "account", "expected"),
    [
        (0o700, Account("a", "a", 1, frozenset()), True),
        (0o077, Account("a", "a", 1, frozenset({2})), False),  # the owner has the owner's bits only
        (0o070, Account("a", "a", 5, frozenset({2})), True),
        (0o707, Account("a", "a", 5, frozenset({2})), False),
        (0o007, Account("a", "a", 5, frozenset()), True),
        (0o000, Account("a", "a", 0, frozenset()), True),
        (0o004, Account("a", "a", None, frozenset()), False),
    ],
)
def test_rights_are_read_from_owner_group_and_mode(
    mode: int, account: Account, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.stat_result((mode, 0, 0, 1, 1, 2, 0, 0, 0, 0))  # of user 1 and group 2
    monkeypatch.setattr(Path, "stat", lambda path: status)
    assert account.may(rights.READ | rights.WRITE | rights.PASS, tmp_path) is expected


# --- what each verb asks for ----------------------------------------------------------------------

SHOWN = {
    "ActiveState": "inactive",
    "SubState": "dead",
    "StatusText": "",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "ActiveEnterTimestamp": "",
    "Result": "success",
    "NeedDaemonReload": "no",
}
RUNNING = {**SHOWN, "ActiveState": "active", "SubState": "running", "StatusText": "DCMSTORE on port 11112"}
RETRYING = {**SHOWN, "ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code", "NRestarts": "2"}

# Programs that write down how they were called; systemctl and journalctl say what files beside them tell them to.
RECORDER = """#!/bin/sh
here=$(dirname "$0")
name=$(basename "$0")
case "$name $*" in
"systemctl --version") echo "systemd 252 (252.1)" ;;
"systemctl show "*) cat "$here/shown" ;;
"journalctl --sync") ;;
"journalctl "*--show-cursor*) echo "-- cursor: s=1;i=2" ;;
"journalctl "*) cat "$here/journal" ;;
*)
    echo "$name $*" >>"$here/calls"
    if [ -e "$here/failing-$1" ]; then cat "$here/failing-$1" >&2; exit 1; fi
    ;;
esac
"""


class Machine:
    """Stand-ins for the programs of the system, and a folder of units."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "programs"
        self.units = folder / "units"
        self.booted = folder / "booted"
        for made in (self.programs, self.units, self.booted):
            made.mkdir()
        for name in ("systemctl", "journalctl", "useradd", "userdel", "chown", "chgrp"):
            (self.programs / name).write_text(RECORDER)
            (self.programs / name).chmod(0o755)
        (self.programs / "calls").touch()
        (self.programs / "journal").touch()
        self.shows(SHOWN)
        self.manager = SystemdManager(self.units, self.booted)

    def shows(self, properties: dict[str, str]) -> None:
        (self.programs / "shown").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))

    def fails(self, verb: str, told: str, journal: str = "") -> None:
        (self.programs / f"failing-{verb}").write_text(told)
        (self.programs / "journal").write_text(journal)

    @property
    def calls(self) -> list[str]:
        return (self.programs / "calls").read_text().splitlines()

    @property
    def unit(self) -> Path:
        return self.units / UNIT_NAME

    def install(self, ini: Path, account: str = "") -> Plan:
        plan = self.manager.install(config.read(ini), InstallOptions(account=account))
        carry_out(plan)
        return plan


def carry_out(plan: Plan) -> list[str]:
    return [said for action in plan.actions if (said := action.do())]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # root of the stand-ins
    monkeypatch.setattr("dcmstore.service.systemd.DEFAULT_USER", "dcmstore-of-tests")  # whom no machine has
    return made


def test_install_does_exactly_what_it_shows(machine: Machine, ini: Path) -> None:
    machine.shows({**SHOWN, "UnitFileState": ""})
    plan = machine.manager.install(config.read(ini), InstallOptions())
    assert machine.calls == []
    assert not machine.unit.exists()
    carry_out(plan)
    shown = [action.text for action in plan.actions]
    assert machine.calls == [
        " ".join(shlex.split(text)) for text in shown if not text.startswith(("write ", "chmod "))
    ]  # chmod is the real one
    assert "--comment 'Dicom Store Service'" in shown[1]
    (written,) = [text for text in shown if text.startswith("write ")]
    assert written == f"write {machine.unit}:\n{machine.unit.read_text()}"
    assert machine.calls[0].startswith("useradd --system ")
    assert machine.calls[-2:] == ["systemctl daemon-reload", f"systemctl enable {UNIT_NAME}"]
    assert machine.unit.stat().st_mode & 0o777 == 0o644
    assert "dcmstore-of-tests" in plan.done


def test_install_again_changes_nothing_and_says_so(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    for command in missing(ini, Account.named("daemon")).commands:  # chown and chgrp are stand-ins here
        assert command[0] in ("chown", "chgrp", "chmod")
    for path in (ini.parent, *ini.parent.rglob("*")):
        path.chmod(0o777)
    with pytest.raises(ServiceError, match=f"already installed, for {re.escape(str(ini))}"):
        machine.install(ini)


def test_install_renews_a_unit_of_other_settings_and_keeps_its_record(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    machine.unit.write_text(machine.unit.read_text().replace('"made_user": false', '"made_user": true'))
    before = unit.record_of(machine.unit.read_text())
    ini.write_text("stop-timeout= 99\n")
    plan = machine.install(ini)
    assert "renewed" in plan.done
    assert f"TimeoutStopSec={stop_seconds(99):g}\n" in machine.unit.read_text()
    after = unit.record_of(machine.unit.read_text())
    assert before is not None
    assert after is not None
    assert after.made_user
    assert after.were[: len(before.were)] == before.were


def test_a_unit_of_somebody_else_is_not_touched(machine: Machine, ini: Path) -> None:
    machine.unit.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(ServiceError, match="not written by dcmstore"):
        machine.install(ini)


def test_without_systemd_it_says_what_to_use_instead(machine: Machine, ini: Path) -> None:
    machine.booted.rmdir()
    with pytest.raises(NotAtWork, match="dcmstore run"):
        machine.install(ini)


def test_plans_are_shown_to_everybody_and_carried_out_by_root(
    machine: Machine, ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    plan = machine.manager.install(config.read(ini), InstallOptions())
    with pytest.raises(ServiceError, match="only root may do this: sudo "):
        carry_out(plan)
    assert machine.calls == []
    assert not machine.unit.exists()


@pytest.mark.parametrize("name", ["Anna", "a b", "-x", "x" * 32, "0"])
def test_a_user_name_that_linux_does_not_take_is_a_configuration_error(machine: Machine, ini: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="allowed is"):
        machine.install(ini, name)


def test_another_user_needs_a_new_installation(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    with pytest.raises(ServiceError, match="installed for the user daemon"):
        machine.install(ini, "nobody")


def test_root_does_not_receive(machine: Machine, ini: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--account root: .*; leave --account out"):
        machine.install(ini, "root")
    assert machine.calls == []


@pytest.mark.parametrize(
    "folder", ["/", "/etc", "/etc/dicom", "/usr", "/bin", "/boot", "/dev", "/proc", "/sys", "/var"]
)
def test_a_folder_of_the_system_is_no_root_folder(machine: Machine, ini: Path, folder: str) -> None:
    ini.write_text(f"RDSR-DIR= {folder}\n")
    expected = f"DcmStore.ini, line 1: RDSR-DIR= {folder} is the system's own; name a folder"
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        machine.install(ini)


def test_an_installation_for_another_ini_is_not_taken_over(machine: Machine, ini: Path, tmp_path: Path) -> None:
    machine.install(ini, "daemon")
    other = tmp_path / "other.ini"
    other.write_text(f"IMG-DIR= {ini.parent}/received/images\nRDSR-DIR= {ini.parent}/received/rdsr\n")
    expected = f"installed for {ini}, not for {other}; `dcmstore service delete` first, then install"
    with pytest.raises(ServiceError, match=re.escape(expected)):
        machine.install(other)


def test_what_install_did_before_it_failed_is_on_record(machine: Machine, ini: Path) -> None:
    before = {path: path.stat().st_mode & 0o7777 for path in (ini.parent, ini, ini.parent / "received")}
    machine.fails("dcmstore-of-tests:", "Operation not permitted")  # of chown
    with pytest.raises(
        ServiceError, match="Operation not permitted; once that works, `dcmstore service install` goes on"
    ):
        machine.install(ini)
    assert {path: path.stat().st_mode & 0o7777 for path in before} != before
    (machine.programs / "failing-dcmstore-of-tests:").unlink()
    machine.install(ini)
    record = unit.record_of(machine.unit.read_text())
    assert record is not None
    assert record.made_user
    carry_out(machine.manager.delete())
    assert {path: path.stat().st_mode & 0o7777 for path in before} == before


def test_a_user_that_could_not_be_made_leaves_everything_as_it_was(machine: Machine, ini: Path) -> None:
    before = {path: path.stat() for path in ini.parent.rglob("*")}
    machine.fails("--system", "useradd: cannot lock /etc/passwd; try again later.")
    with pytest.raises(ServiceError, match="try again later"):
        machine.install(ini)
    assert {path: path.stat() for path in before} == before
    (machine.programs / "failing---system").unlink()
    machine.install(ini)
    record = unit.record_of(machine.unit.read_text())
    assert record is not None
    assert record.made_user


def test_a_unit_that_systemd_has_not_read_yet_is_read_by_the_next_install(machine: Machine, ini: Path) -> None:
    machine.fails("daemon-reload", "Access denied")
    with pytest.raises(ServiceError):
        machine.install(ini, "daemon")
    (machine.programs / "failing-daemon-reload").unlink()
    for path in (ini.parent, *ini.parent.rglob("*")):
        path.chmod(0o777)
    machine.shows({**SHOWN, "NeedDaemonReload": "yes"})
    plan = machine.install(ini)
    assert [action.text for action in plan.actions] == ["systemctl daemon-reload"]


def test_what_the_user_can_not_do_after_all_is_no_success(machine: Machine, ini: Path) -> None:
    (ini.parent / "thesis.odt").touch()
    plan = machine.install(ini, "daemon")
    assert plan.lacking.startswith("installed, but the user daemon can't receive before this is done:\n")
    assert f"the user daemon can't read {ini}: sudo chgrp " in plan.lacking
    assert "starts it now" not in plan.done


def test_the_firewall_is_left_to_its_own_tools(machine: Machine, ini: Path) -> None:
    with pytest.raises(ConfigurationError, match="ufw allow 11112/tcp"):
        machine.manager.install(config.read(ini), InstallOptions(firewall=True))


def test_a_step_that_fails_tells_its_own_words(machine: Machine, ini: Path) -> None:
    machine.fails("daemon-reload", "Access denied")
    with pytest.raises(ServiceError, match="`systemctl daemon-reload`: Access denied"):
        machine.install(ini, "daemon")


def test_start_says_what_runs(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    plan = machine.manager.start()
    machine.shows(RUNNING)
    assert carry_out(plan) == ["running: DCMSTORE on port 11112"]
    assert machine.calls[-1] == f"systemctl start {UNIT_NAME}"
    assert plan.done == ""
    with pytest.raises(ServiceError, match="already running"):
        machine.manager.start()


@pytest.mark.parametrize(
    ("journal", "reason"),
    [
        (
            'INFO    a.b\nERROR   receiver.failed reason="port 104"\nx: Failed with result\n',
            'receiver.failed reason="port',
        ),
        ("dcmstore: /x.ini, line 3: port= 'a'\nFailed to start\n", "/x.ini, line 3: port= 'a'"),
        ("Traceback\nModuleNotFoundError: no pydicom\n", "ModuleNotFoundError: no pydicom"),
        ("/opt/x/bin/python: No module named dcmstore\n", "No module named dcmstore"),
        (f"{UNIT_NAME}: Failed at step NAMESPACE spawning /x: No such file\n", "Failed at step NAMESPACE"),
        ("", "Job failed"),
    ],
)
def test_a_start_that_fails_says_why(machine: Machine, ini: Path, journal: str, reason: str) -> None:
    machine.install(ini, "daemon")
    machine.fails("start", "Job failed", journal)
    with pytest.raises(ServiceError, match=f"did not start: .*{re.escape(reason)}") as raised:
        carry_out(machine.manager.start())
    assert "`dcmstore service stop` ends that" in str(raised.value)


def test_a_start_with_other_settings_than_installed_says_so(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    ini.write_text("port= 104\n")
    assert "`dcmstore service install` renews it" in machine.manager.start().done
    assert machine.manager.outdated() == machine.manager.start().done.splitlines()
    machine.fails("start", "Job failed")
    with pytest.raises(ServiceError, match="`dcmstore service install` renews it"):
        carry_out(machine.manager.start())


def test_a_mistake_in_the_ini_is_told_before_anything_is_asked_for(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    machine.shows(RUNNING)
    ini.write_text("port= lots\n")
    with pytest.raises(ConfigurationError, match=r"line 1: port= 'lots'.*the settings from before stay in force"):
        machine.manager.reload()
    machine.shows(SHOWN)
    with pytest.raises(ConfigurationError, match="line 1: port= 'lots'"):
        machine.manager.start()


def test_reload_tells_what_the_receiver_made_of_it(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    with pytest.raises(NotAtWork, match="not running"):
        machine.manager.reload()
    machine.shows(RUNNING)
    (machine.programs / "journal").write_text("Reloading\nINFO    config.reloaded changed=port\n")
    assert carry_out(machine.manager.reload()) == ["reloaded: changed=port"]
    assert machine.calls[-1] == f"systemctl reload {UNIT_NAME}"
    (machine.programs / "journal").write_text('ERROR   config.not_reloaded reason="port 104"\n')
    with pytest.raises(ServiceError, match='not reloaded: reason="port 104"'):
        carry_out(machine.manager.reload())


def test_stop_also_ends_the_tries_after_a_failure(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    with pytest.raises(ServiceError, match="already stopped"):
        machine.manager.stop()
    for shown in (RUNNING, RETRYING):
        machine.shows(shown)
        carry_out(machine.manager.stop())
        assert machine.calls[-1] == f"systemctl stop {UNIT_NAME}"


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        (RUNNING, State.RUNNING),
        ({**RUNNING, "ActiveState": "reloading"}, State.RUNNING),
        ({**SHOWN, "ActiveState": "activating", "SubState": "start"}, State.STARTING),
        (RETRYING, State.STOPPED),
        ({**SHOWN, "ActiveState": "deactivating"}, State.STOPPING),
        (SHOWN, State.STOPPED),
        ({**SHOWN, "ActiveState": "failed", "Result": "exit-code"}, State.STOPPED),
    ],
)
def test_query_knows_the_states_of_systemd(machine: Machine, ini: Path, shown: dict[str, str], state: State) -> None:
    machine.install(ini, "daemon")
    machine.shows(shown)
    status = machine.manager.query()
    assert (status.state, status.ini) == (state, ini)
    assert any("it failed: exit-code" in fact for fact in status.facts) == (shown["Result"] == "exit-code")


def test_query_knows_that_nothing_is_installed(machine: Machine) -> None:
    assert machine.manager.query() == Status(State.NOT_INSTALLED)


def test_query_says_that_systemd_is_missing(machine: Machine) -> None:
    machine.booted.rmdir()
    status = machine.manager.query()
    assert status.state is State.NOT_INSTALLED
    assert ["systemd does not run this machine; " in fact for fact in status.facts] == [True]


def test_a_unit_that_is_as_its_ini_wants_it_is_not_outdated(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    assert machine.manager.outdated() == []


@pytest.mark.parametrize(
    "verb", [SystemdManager.start, SystemdManager.stop, SystemdManager.delete, SystemdManager.reload]
)
def test_what_is_not_installed_can_not_be_asked_for_anything(
    machine: Machine, verb: Callable[[SystemdManager], Plan]
) -> None:
    with pytest.raises(NotAtWork, match="not installed"):
        verb(machine.manager)


def test_delete_stops_first_and_leaves_no_unit(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    installed = len(machine.calls)
    machine.shows(RUNNING)
    plan = machine.manager.delete()
    carry_out(plan)
    assert [call for call in machine.calls[installed:] if call.startswith("systemctl")] == [
        f"systemctl stop {UNIT_NAME}",
        f"systemctl reset-failed {UNIT_NAME}",
        f"systemctl disable {UNIT_NAME}",
        "systemctl daemon-reload",
    ]
    assert not any(call.startswith("userdel") for call in machine.calls), "daemon was there before"
    assert list(machine.units.iterdir()) == []
    assert ini.exists()
    assert str(ini) in plan.done


def test_delete_removes_the_user_that_install_made(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    text = machine.unit.read_text()
    machine.unit.write_text(text.replace('"made_user": false', '"made_user": true'))
    plan = machine.manager.delete()
    assert "userdel daemon" in [action.text for action in plan.actions]
    assert "chown -R NAME: FOLDER" in plan.done


def test_the_record_of_what_delete_undoes_goes_last(machine: Machine, ini: Path) -> None:
    before = ini.parent.stat().st_mode
    machine.install(ini, "daemon")
    text = machine.unit.read_text()
    machine.unit.write_text(text.replace('"made_user": false', '"made_user": true'))
    machine.fails("daemon", "userdel: user daemon is currently used by process 7")
    with pytest.raises(ServiceError, match="used by process 7"):
        carry_out(machine.manager.delete())
    assert ini.parent.stat().st_mode == before
    assert machine.unit.exists()
    (machine.programs / "failing-daemon").unlink()
    carry_out(machine.manager.delete())
    assert machine.calls[-2:] == ["userdel daemon", "systemctl daemon-reload"]
    assert not machine.unit.exists()


def test_delete_names_what_the_administrator_has_added(machine: Machine, ini: Path) -> None:
    machine.install(ini, "daemon")
    (machine.units / f"{UNIT_NAME}.d").mkdir()
    assert f"{UNIT_NAME}.d stays too" in machine.manager.delete().done
