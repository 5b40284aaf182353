"""The Windows service from the outside: what the Service Control Manager is asked for, to the letter."""

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath, PureWindowsPath

import pytest

from dcmstore import config
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError
from dcmstore.service import windows_rights, winsvc
from dcmstore.service.advapi import Progress, Setup
from dcmstore.service.manager import InstallOptions, ServiceError, State
from dcmstore.service.scm import WindowsManager
from dcmstore.service.windows_machine import Program, Record
from tests.scm_support import RUNNING, STOPPED, Windows, carry_out, pending

SID = "S-1-5-80-2000778522-165402745-1909082062-198811543-3030893236"
SERVICE_PAUSED = 7  # no state of ours
RULE = "name=Dicom Store Service (DcmStoreService)"
EXE = r"C:\Dicom Store\bin\DcmStoreService.exe"
CHANGES = {
    winsvc.SERVICE_CONFIG_DESCRIPTION,
    winsvc.SERVICE_CONFIG_FAILURE_ACTIONS,
    winsvc.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG,
    winsvc.SERVICE_CONFIG_SERVICE_SID_INFO,
    winsvc.SERVICE_CONFIG_PRESHUTDOWN_INFO,
}


@pytest.fixture
def windows() -> Windows:
    return Windows()


@pytest.fixture
def manager(windows: Windows) -> WindowsManager:
    return WindowsManager(windows.machine)


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    folder = tmp_path / "Dicom Store"
    (folder / "images").mkdir(parents=True)
    (folder / "rdsr").mkdir()
    path = folder / "DcmStore.ini"
    path.write_text("IMG-DIR= images\nRDSR-DIR= rdsr\nport= 104\n", encoding="utf-8")
    return path


def add_line(ini: Path, line: str) -> Configuration:
    ini.write_text(f"{ini.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")
    return config.read(ini)


def install(manager: WindowsManager, ini: Path, **options: object) -> tuple[list[str], list[str]]:
    return carry_out(manager.install(config.read(ini), InstallOptions(**options)))  # type: ignore[arg-type]


@pytest.fixture
def installed(windows: Windows, manager: WindowsManager, ini: Path) -> Windows:
    """With the service of that ini, and no notes of how it came there."""
    install(manager, ini)
    windows.changes.clear()
    return windows


def granted(path: Path | str, rights: str) -> tuple[str, ...]:
    return ("icacls", str(path), "/grant", f"*{SID}:{rights}", "/Q")


def taken_back(path: Path | str) -> tuple[str, ...]:
    return ("icacls", str(path), "/remove:g", f"*{SID}", "/Q")


# --- install -------------------------------------------------------------------------------------


def test_the_service_is_created_with_these_arguments(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    install(manager, ini)
    assert windows.changes[0] == (
        "CreateServiceW",
        "DcmStoreService",
        "Dicom Store Service",
        0x0004,  # access: SERVICE_QUERY_STATUS
        0x10,  # a process of its own
        2,  # start: automatic
        1,  # an error is logged, and Windows goes on
        f'"{EXE}" -I -m dcmstore.service.windows_host "{ini}"',
        None,  # no load order group
        None,  # so no tag in it
        "Tcpip\0\0",
        "NT AUTHORITY\\LocalService",
        None,  # no password
    )


def test_what_it_is_and_how_it_restarts_is_set_to_the_letter(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    install(manager, ini)
    assert {change[1]: change[2] for change in windows.changes if change[0] == "ChangeServiceConfig2W"} == {
        1: ("DICOM Storage SCP: files the images and radiation dose reports that are sent to this machine.",),
        2: (86_400, None, None, 3, [(1, 5_000), (1, 10_000), (1, 60_000)]),  # restart (1) after milliseconds
        4: (1,),  # also when it ends by itself with an error
        5: (1,),  # a SID of its own, unrestricted
        7: (180_000,),  # preshutdown, in milliseconds
    }


def test_a_shutdown_leaves_the_time_that_a_stop_may_take(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    add_line(ini, "stop-timeout= 300")
    install(manager, ini)
    assert ("ChangeServiceConfig2W", 7, (640_000,)) in windows.changes


def test_the_service_gets_rights_on_its_folders_only(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    install(manager, ini)
    assert [change for change in windows.changes if change[0] == "icacls"] == [
        granted(r"C:\Dicom Store\bin", "(OI)(CI)(RX)"),
        granted(ini.parent, "(OI)(NP)(M)"),
        granted(ini.parent / "images", "(OI)(CI)(M)"),
        granted(ini.parent / "rdsr", "(OI)(CI)(M)"),
    ]


def test_it_may_write_into_the_folders_that_hooks_copy_to(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    copies = ini.parent.parent / "copies"
    add_line(ini, f"on-stored= [modality=CT] copy to {copies}")
    install(manager, ini)
    assert granted(copies, "(OI)(CI)(M)") in windows.changes


def test_with_an_index_it_may_write_beside_the_ini(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    add_line(ini, "logfile= 0\nindex= 1")
    install(manager, ini)
    assert granted(ini.parent, "(OI)(NP)(M)") in windows.changes


def test_without_a_log_it_may_only_read_beside_the_ini(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    add_line(ini, "logfile= 0")
    install(manager, ini)
    assert granted(ini.parent, "(OI)(NP)(RX)") in windows.changes


def test_it_may_read_files_that_the_ini_names(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    add_line(ini, "users= people/users.txt")
    install(manager, ini)
    assert granted(ini.parent / "people/users.txt", "(R)") in windows.changes


def test_what_delete_has_to_undo_is_written_down_before_it_is_done(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    install(manager, ini, firewall=True)
    kinds = [change[0] for change in windows.changes]
    change = "ChangeServiceConfig2W"
    assert kinds == ["CreateServiceW", *[change] * 4, "record", change, *["icacls"] * 4, "netsh"]
    assert windows.records.record == Record(
        (
            (r"C:\Dicom Store\bin", "(OI)(CI)(RX)"),
            (str(ini.parent), "(OI)(NP)(M)"),
            (str(ini.parent / "images"), "(OI)(CI)(M)"),
            (str(ini.parent / "rdsr"), "(OI)(CI)(M)"),
        ),
        "104",
        180,
    )


def test_the_firewall_is_opened_for_its_program_and_its_ports(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    add_line(ini, "tls-port= 2762")
    install(manager, ini, firewall=True)
    assert windows.changes[-1] == (
        "netsh", "advfirewall", "firewall", "add", "rule", RULE, "dir=in", "action=allow", "protocol=TCP",
        "localport=104,2762", f"program={EXE}",
    )  # fmt: skip


def test_the_firewall_is_left_alone_unless_it_is_asked_for(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    install(manager, ini)
    assert not [change for change in windows.changes if change[0] == "netsh"]


@pytest.mark.parametrize(
    ("wanted", "account", "password"),
    [
        ("lab", r".\lab", "secret"),
        (r"HOSPITAL\lab", r"HOSPITAL\lab", "secret"),
        ("lab@hospital.example", "lab@hospital.example", "secret"),
        (r"HOSPITAL\lab$", r"HOSPITAL\lab$", None),
        (r"NT AUTHORITY\NetworkService", r"NT AUTHORITY\NetworkService", None),
        (r"NT SERVICE\DcmStoreService", r"NT SERVICE\DcmStoreService", None),
        ("LocalSystem", "LocalSystem", None),
    ],
)
def test_a_password_is_asked_for_where_windows_does_not_know_it(
    windows: Windows, manager: WindowsManager, ini: Path, wanted: str, account: str, password: str | None
) -> None:
    install(manager, ini, account=wanted)
    assert windows.changes[0][-2:] == (account, password)
    assert windows.asked == ([account] if password else [])


def test_a_plan_changes_nothing_until_it_is_carried_out(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    plan = manager.install(config.read(ini), InstallOptions(account="lab", firewall=True))
    assert (windows.changes, windows.asked) == ([], [])
    shown = "\n".join(action.text for action in plan.actions)
    assert f'"{EXE}" -I -m dcmstore.service.windows_host "{ini}"' in shown
    assert f'icacls "{ini.parent / "images"}" /grant *{SID}:(OI)(CI)(M) /Q' in shown
    assert f'netsh advfirewall firewall add rule "{RULE}"' in shown


def test_only_an_administrator_may_install_and_nothing_is_done_by_halves(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    windows.library.refusals["administrator"] = 1
    with pytest.raises(ServiceError, match="Run as administrator"):
        install(manager, ini)
    assert windows.changes == []


@pytest.mark.parametrize("what", CHANGES)
def test_an_extra_that_windows_does_not_have_is_a_warning(
    windows: Windows, manager: WindowsManager, ini: Path, what: int
) -> None:
    windows.library.refusals[what] = 124
    said, warnings = install(manager, ini)
    (warning,) = warnings
    assert warning.startswith("ChangeServiceConfig2W: Windows' words for 124 (Windows error 124); ")
    assert said[0].startswith("installed: ")
    assert windows.changes[-1] == granted(ini.parent / "rdsr", "(OI)(CI)(M)")


def test_rights_that_cannot_be_given_are_told_with_what_to_do(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    windows.failing = "icacls"
    _, warnings = install(manager, ini)
    told = f"icacls failed; give NT SERVICE\\DcmStoreService its rights on {ini.parent / 'rdsr'} yourself"
    assert warnings[-1].startswith(told)


@pytest.mark.parametrize("code", [1057, 1072, 1078, 4711])
def test_a_refused_creation_ends_the_installation_in_words(
    windows: Windows, manager: WindowsManager, ini: Path, code: int
) -> None:
    windows.library.refusals["CreateServiceW"] = code
    with pytest.raises(ServiceError) as caught:
        install(manager, ini)
    words = {
        1057: "no such account",
        1072: "still being deleted",
        1078: "another service",
        4711: "(Windows error 4711)",
    }
    assert words[code] in str(caught.value)
    assert windows.changes == []


# --- install once more ---------------------------------------------------------------------------


def test_what_is_installed_already_is_said_and_left_alone(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    with pytest.raises(ServiceError, match="already installed"):
        install(manager, ini)
    assert installed.changes == []


def test_a_service_of_another_folder_is_not_taken_over(installed: Windows, manager: WindowsManager, ini: Path) -> None:
    other = ini.rename(ini.with_name("Other.ini"))
    with pytest.raises(ServiceError) as caught:
        install(manager, other)
    assert f'installed: "{EXE}" -I -m dcmstore.service.windows_host "{ini}"' in str(caught.value)
    assert f'wanted:    "{EXE}" -I -m dcmstore.service.windows_host "{other}"' in str(caught.value)
    assert installed.changes == []


def test_another_account_needs_another_installation(installed: Windows, manager: WindowsManager, ini: Path) -> None:
    with pytest.raises(ServiceError, match=r"wanted:    runs as \.\\lab"):
        install(manager, ini, account="lab")


@pytest.mark.parametrize("progress", [RUNNING, STOPPED, Progress(SERVICE_PAUSED)])
@pytest.mark.parametrize("verb", ["install", "delete", "start", "stop", "reload", "outdated"])
def test_the_service_of_the_original_is_left_alone(
    windows: Windows, manager: WindowsManager, ini: Path, verb: str, progress: Progress
) -> None:
    windows.library.installed = Setup(r"C:\DcmStore\DcmStoreService.exe", "LocalSystem", "Dicom Store Service")
    windows.library.states = [progress]
    verbs: dict[str, Callable[[], object]] = {
        "install": lambda: manager.install(config.read(ini), InstallOptions()),
        "delete": manager.delete,
        "start": manager.start,
        "stop": manager.stop,
        "reload": manager.reload,
        "outdated": manager.outdated,
    }
    with pytest.raises(ServiceError, match="another program"):
        verbs[verb]()
    assert windows.changes == []


def test_another_folder_in_the_ini_gets_its_rights_by_installing_once_more(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    (ini.parent / "new").mkdir()
    add_line(ini, "IMG-DIR= new")
    said, _ = install(manager, ini)
    assert installed.changes[1:] == [taken_back(ini.parent / "images"), granted(ini.parent / "new", "(OI)(CI)(M)")]
    assert installed.records.record.grants[-1] == (str(ini.parent / "rdsr"), "(OI)(CI)(M)")
    assert said == ["it was installed already, and has what its ini needs now"]


def test_a_running_service_keeps_its_rights_on_the_folder_that_it_still_files_in(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    images, new = ini.parent / "images", ini.parent / "new"
    new.mkdir()
    add_line(ini, "IMG-DIR= new")
    installed.library.states = [RUNNING]
    said, _ = carry_out(manager.install(config.read(ini), InstallOptions()))
    assert installed.changes[1:] == [granted(new, "(OI)(CI)(M)")]
    assert "`dcmstore reload`" in said[0]
    assert f"as long as it runs it keeps its rights on {images}" in said[0]
    assert manager.outdated() == []
    with pytest.raises(ServiceError, match=r"already installed, for .*\n.* keeps its rights on "):
        install(manager, ini)


@pytest.mark.parametrize("end", ["install", "delete"])
def test_what_a_running_service_kept_is_taken_back_once_it_is_stopped(
    installed: Windows, manager: WindowsManager, ini: Path, end: str
) -> None:
    (ini.parent / "new").mkdir()
    add_line(ini, "IMG-DIR= new")
    installed.library.states = [RUNNING]
    install(manager, ini)
    installed.changes.clear()
    installed.library.states = [STOPPED]
    carry_out(manager.install(config.read(ini), InstallOptions()) if end == "install" else manager.delete())
    assert taken_back(ini.parent / "images") in installed.changes
    assert (taken_back(ini.parent / "new") in installed.changes) == (end == "delete")


def test_fewer_rights_on_the_same_folder_are_given_once_the_service_is_stopped(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    add_line(ini, "logfile= 0")
    installed.library.states = [RUNNING]
    install(manager, ini)
    assert taken_back(ini.parent) not in installed.changes
    installed.changes.clear()
    installed.library.states = [STOPPED]
    install(manager, ini)
    assert installed.changes[1:] == [taken_back(ini.parent), granted(ini.parent, "(OI)(NP)(RX)")]


def test_a_longer_stop_is_told_and_granted_by_installing_once_more(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    add_line(ini, "stop-timeout= 300")
    (told,) = manager.outdated()
    assert "`dcmstore service install` once more" in told
    install(manager, ini)
    assert installed.changes[1:] == [("ChangeServiceConfig2W", winsvc.SERVICE_CONFIG_PRESHUTDOWN_INFO, (640_000,))]
    assert manager.outdated() == []


def test_a_shorter_stop_counts_once_the_service_is_stopped(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    add_line(ini, "stop-timeout= 300")
    install(manager, ini)
    windows.changes.clear()
    add_line(ini, "stop-timeout= 200")
    windows.library.states = [RUNNING]
    with pytest.raises(ServiceError, match="already installed"):
        install(manager, ini)
    windows.library.states = [STOPPED]
    install(manager, ini)
    assert windows.changes[1:] == [("ChangeServiceConfig2W", winsvc.SERVICE_CONFIG_PRESHUTDOWN_INFO, (440_000,))]


def test_another_port_gets_another_rule_of_the_firewall(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    install(manager, ini, firewall=True)
    windows.changes.clear()
    add_line(ini, "port= 11112")
    install(manager, ini)
    assert [change[3:5] for change in windows.changes[1:]] == [("delete", "rule"), ("add", "rule")]
    assert "localport=11112" in windows.changes[2]


def test_ports_that_change_places_need_no_other_rule_of_the_firewall(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    add_line(ini, "tls-port= 2762")
    install(manager, ini, firewall=True)
    windows.changes.clear()
    ini.write_text(ini.read_text().replace("port= 104", "port= 2762").replace("tls-port= 2762", "tls-port= 104"))
    install(manager, ini)
    assert [change[0] for change in windows.changes] == ["record"]


def test_the_port_of_a_running_service_stays_open_until_it_is_stopped(
    windows: Windows, manager: WindowsManager, ini: Path
) -> None:
    install(manager, ini, firewall=True)
    windows.changes.clear()
    add_line(ini, "port= 11112")
    windows.library.states = [RUNNING]
    said, _ = carry_out(manager.install(config.read(ini), InstallOptions()))
    (rule,) = windows.changes[1:]
    assert (rule[3], rule[9]) == ("add", "localport=11112")
    assert "it keeps port 104 in the firewall" in said[0]
    windows.changes.clear()
    windows.library.states = [STOPPED]
    install(manager, ini)
    assert [change[3] for change in windows.changes[1:]] == ["delete", "add"]
    assert windows.changes[2][9] == "localport=11112"


def test_the_account_is_kept_when_none_is_named(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    install(manager, ini, account="lab")
    with pytest.raises(ServiceError, match="already installed, for"):
        install(manager, ini)


# --- folders on other machines -------------------------------------------------------------------


def test_a_share_needs_an_account_that_is_known_there(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    windows.remote = str(ini.parent / "images")
    plan = manager.install(config.read(ini), InstallOptions())
    assert f"IMG-DIR {ini.parent / 'images'}: services do not know the letter" in plan.done
    assert not [action for action in plan.actions if action.text.startswith(f'icacls "{ini.parent / "images"}"')]


@pytest.mark.parametrize(
    ("folder", "account", "told"),
    [
        (r"\\nas\dicom", "NT AUTHORITY\\LocalService", "has no name there; delete the service, and install it with"),
        (r"\\nas\dicom", "nt authority\\localservice", "has no name there"),
        (r"\\?\UNC\nas\dicom\a", "NT AUTHORITY\\LocalService", "has no name there"),
        (r"\\nas\dicom", None, "has no name there; `dcmstore service install` needs `--account DOMAIN\\NAME`"),
        (r"\\nas\dicom", "LocalSystem", "as this computer's (NAME$)"),
        (r"\\nas\dicom", r".\LocalSystem", "as this computer's (NAME$)"),
        (r"\\nas\dicom", r"NT AUTHORITY\NETWORKSERVICE", "as this computer's (NAME$)"),
        (r"\\nas\dicom", r"NT SERVICE\DcmStoreService", "as this computer's (NAME$)"),
        (r"\\nas\dicom", r"HOSPITAL\lab", r"HOSPITAL\lab needs the right to change files there"),
        (r"Z:\images", r"HOSPITAL\lab", r"do not know the letter Z:, a share of who has logged on; write it as \\comp"),
    ],
)
def test_what_a_share_needs_is_said(folder: str, account: str | None, told: str) -> None:
    (found,) = windows_rights.remote_roots({"IMG-DIR": PureWindowsPath(folder)}, account, is_remote)
    assert str(found).startswith(f"IMG-DIR {folder}")
    assert told in str(found)


@pytest.mark.parametrize("folder", [r"D:\dicom", r"\\?\D:\dicom", r"\\.\D:\dicom"])
def test_a_disk_of_this_machine_needs_nothing(folder: str) -> None:
    assert list(windows_rights.remote_roots({"IMG-DIR": PureWindowsPath(folder)}, None, is_remote)) == []


def is_remote(path: PurePath) -> bool:
    """On a machine whose Z: is a share, and whose shares are away just now."""
    return windows_rights.is_remote(path, lambda drive: windows_rights.DRIVE_REMOTE if drive == "Z:\\" else 1)


# --- start ---------------------------------------------------------------------------------------

STARTING = [pending(winsvc.SERVICE_START_PENDING, check_point) for check_point in range(1, 100)]
STOPPING = [pending(winsvc.SERVICE_STOP_PENDING, check_point) for check_point in range(1, 100)]
FAILED = Progress(winsvc.SERVICE_STOPPED, winsvc.ERROR_SERVICE_SPECIFIC_ERROR, 1)


def states_after(windows: Windows, call: str, *states: Progress) -> None:
    """What is seen once something was asked for."""

    def on_change(changed: str) -> None:
        if changed == call:
            windows.library.states[:] = states

    windows.library.on_change = on_change


def test_start_waits_until_the_service_runs(installed: Windows, manager: WindowsManager) -> None:
    states_after(installed, "StartServiceW", *STARTING[:3], RUNNING)
    said, _ = carry_out(manager.start())
    assert said == ["running: DCMSTORE on port 104"]
    assert installed.changes == [("StartServiceW", winsvc.SERVICE_START)]


def test_start_waits_as_long_as_there_are_signs_of_life(installed: Windows, manager: WindowsManager) -> None:
    slow = [state for state in STARTING for _ in range(100)]  # each is seen for 20 seconds
    states_after(installed, "StartServiceW", *slow, RUNNING)
    assert carry_out(manager.start())[0] == ["running: DCMSTORE on port 104"]
    assert installed.now > 30 * 60


def test_start_gives_up_without_a_sign_of_life(installed: Windows, manager: WindowsManager) -> None:
    states_after(installed, "StartServiceW", *STARTING[:3])
    with pytest.raises(ServiceError, match=r"starting for 30 seconds without a sign of life.* end the process 77"):
        carry_out(manager.start())


def test_start_waits_for_a_stop_that_is_under_way(installed: Windows, manager: WindowsManager) -> None:
    plan = manager.start()
    installed.library.states[:] = [*STOPPING[:3], STOPPED]

    def on_change(call: str) -> None:
        assert installed.library.states == [STOPPED]
        installed.library.states = [RUNNING]

    installed.library.on_change = on_change
    carry_out(plan)


def test_start_is_content_when_windows_was_quicker(installed: Windows, manager: WindowsManager) -> None:
    plan = manager.start()
    installed.library.refusals["StartServiceW"] = winsvc.ERROR_SERVICE_ALREADY_RUNNING
    installed.library.states[:] = [*STARTING[:2], RUNNING]
    assert carry_out(plan)[0] == ["running: DCMSTORE on port 104"]


def test_a_start_that_fails_says_what_the_log_says(installed: Windows, manager: WindowsManager, ini: Path) -> None:
    log = ini.with_name("DcmStore.log")
    log.write_text("2026-01-01T00:00:00.000+01:00 ERROR   receiver.failed reason=old\n", encoding="utf-8")

    def fail(call: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write("2026-01-02T00:00:00.000+01:00 ERROR   receiver.failed reason=first\n")
            file.write(
                '2026-01-02T00:00:00.000+01:00 ERROR   receiver.failed reason="the \\"disk\\"" what_to_do="buy one"\n'
            )
        installed.library.states[:] = [*STARTING[:2], FAILED]

    installed.library.on_change = fail
    with pytest.raises(ServiceError) as caught:
        carry_out(manager.start())
    first, last = str(caught.value).splitlines()
    assert first == 'did not start: the "disk"; buy one'
    assert last.startswith("Windows starts it again and again, at least every 60 seconds")


def test_a_log_that_was_put_aside_meanwhile_is_read_from_its_beginning(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    log = ini.with_name("DcmStore.log")
    log.write_text("a line of a full log\n" * 100, encoding="utf-8")

    def fail(call: str) -> None:
        log.rename(log.with_name("DcmStore.log.1"))
        log.write_text("2026-01-02T00:00:00.000+01:00 ERROR   receiver.failed reason=new\n", encoding="utf-8")
        installed.library.states[:] = [FAILED]

    installed.library.on_change = fail
    with pytest.raises(ServiceError, match="did not start: new"):
        carry_out(manager.start())


def test_a_start_that_fails_says_who_has_the_port(installed: Windows, manager: WindowsManager, ini: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        add_line(ini, f"port= {port}")
        states_after(installed, "StartServiceW", FAILED)
        with pytest.raises(ServiceError) as caught:
            carry_out(manager.start())
    assert rf"port {port} is taken by " in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (FAILED, "it could not start, or went wrong"),
        (replace(FAILED, specific_exit_code=2), "its settings are wrong"),
        (replace(FAILED, specific_exit_code=3), "it ended with code 3"),
        (Progress(winsvc.SERVICE_STOPPED, 1069), "may not log on as a service"),
        (Progress(winsvc.SERVICE_STOPPED, 4711), "Windows' words for 4711 (Windows error 4711)"),
        (STOPPED, "it ended at once"),
    ],
)
def test_a_start_that_fails_without_a_word_in_the_log_says_how_it_ended(
    installed: Windows, manager: WindowsManager, ini: Path, ended: Progress, told: str
) -> None:
    old = "2026-01-01T00:00:00.000+01:00 ERROR   receiver.failed reason=old\n"
    ini.with_name("DcmStore.log").write_text(old, encoding="utf-8")
    states_after(installed, "StartServiceW", ended)
    with pytest.raises(ServiceError) as caught:
        carry_out(manager.start())
    assert str(caught.value).startswith("did not start: ")
    assert told in str(caught.value)


def test_start_says_when_the_ini_names_folders_without_rights(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    add_line(ini, "IMG-DIR= new")
    plan = manager.start()
    assert "`dcmstore service install` once more" in plan.done
    states_after(installed, "StartServiceW", FAILED)
    with pytest.raises(ServiceError, match="`dcmstore service install` once more"):
        carry_out(plan)


def test_a_broken_ini_is_told_and_nothing_is_started(installed: Windows, manager: WindowsManager, ini: Path) -> None:
    ini.write_text("port= eleven\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="port= 'eleven'"):
        manager.start()


def test_what_runs_already_is_said(installed: Windows, manager: WindowsManager) -> None:
    installed.library.states = [RUNNING]
    with pytest.raises(ServiceError, match="already running; its ini says DCMSTORE on port 104"):
        manager.start()


@pytest.mark.parametrize("verb", ["start", "stop", "delete", "reload"])
def test_what_is_not_installed_is_said(manager: WindowsManager, verb: str) -> None:
    with pytest.raises(ServiceError, match="not installed"):
        getattr(manager, verb)()


@pytest.mark.parametrize("verb", ["start", "stop", "delete", "reload"])
def test_only_an_administrator_may_change_anything(installed: Windows, manager: WindowsManager, verb: str) -> None:
    installed.library.states = [STOPPED if verb in ("start", "delete") else RUNNING]
    installed.library.refusals["administrator"] = 1
    with pytest.raises(ServiceError, match="Run as administrator"):
        carry_out(getattr(manager, verb)())
    assert installed.changes == []


# --- stop ----------------------------------------------------------------------------------------


def test_stop_waits_until_the_service_is_stopped(installed: Windows, manager: WindowsManager) -> None:
    installed.library.states = [RUNNING]
    states_after(installed, "ControlService", RUNNING, *STOPPING[:3], STOPPED)
    said, _ = carry_out(manager.stop())
    assert said == ["stopped; what was acknowledged is on disk"]
    assert installed.library.states == [STOPPED]
    assert installed.changes == [("ControlService", winsvc.SERVICE_CONTROL_STOP, winsvc.SERVICE_STOP)]


def test_stop_waits_for_a_start_that_is_under_way(installed: Windows, manager: WindowsManager) -> None:
    installed.library.states = [*STARTING[:3], RUNNING]
    states_after(installed, "ControlService", STOPPED)
    carry_out(manager.stop())
    assert len(installed.changes) == 1


def test_stop_is_content_when_the_service_ended_meanwhile(installed: Windows, manager: WindowsManager) -> None:
    installed.library.states = [RUNNING, RUNNING, STOPPED]
    installed.library.refusals["ControlService"] = winsvc.ERROR_SERVICE_NOT_ACTIVE
    carry_out(manager.stop())


def test_what_is_stopped_already_is_said(installed: Windows, manager: WindowsManager) -> None:
    with pytest.raises(ServiceError) as caught:
        manager.stop()
    assert str(caught.value) == "already stopped"


def test_a_service_that_fails_again_and_again_is_not_called_just_stopped(
    installed: Windows, manager: WindowsManager
) -> None:
    installed.library.states = [FAILED]
    with pytest.raises(ServiceError, match=r"already stopped: it could not start.*\n?.*starts it again"):
        manager.stop()


# --- delete --------------------------------------------------------------------------------------


def test_delete_stops_first_and_undoes_all_that_was_done(windows: Windows, manager: WindowsManager, ini: Path) -> None:
    install(manager, ini, firewall=True)
    windows.changes.clear()
    windows.library.states = [RUNNING]
    states_after(windows, "ControlService", STOPPED)
    said, warnings = carry_out(manager.delete())
    assert windows.changes == [
        ("ControlService", winsvc.SERVICE_CONTROL_STOP, winsvc.SERVICE_STOP),
        ("netsh", "advfirewall", "firewall", "delete", "rule", RULE),
        taken_back(ini.parent),
        taken_back(ini.parent / "images"),
        taken_back(ini.parent / "rdsr"),
        ("no record",),
        ("DeleteService", winsvc.DELETE),
    ]
    assert (windows.library.installed, windows.library.open_handles, warnings) == (None, 0, [])
    assert said == [
        f"deleted; these stay: {ini}, the log beside it\n    IMG-DIR {ini.parent / 'images'}\n"
        f"    RDSR-DIR {ini.parent / 'rdsr'}"
    ]


def test_delete_takes_back_what_was_given_and_not_what_the_ini_names_now(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    (ini.parent / "new").mkdir()
    add_line(ini, "IMG-DIR= new")
    carry_out(manager.delete())
    assert taken_back(ini.parent / "images") in installed.changes
    assert taken_back(ini.parent / "new") not in installed.changes


def test_delete_goes_on_when_something_can_not_be_undone(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    installed.failing = "icacls"
    _, warnings = carry_out(manager.delete())
    assert warnings[0].startswith(f"icacls failed; remove NT SERVICE\\DcmStoreService from {ini.parent} yourself")
    assert installed.library.installed is None


def test_delete_works_when_the_ini_is_gone(installed: Windows, manager: WindowsManager, ini: Path) -> None:
    ini.unlink()
    said, _ = carry_out(manager.delete())
    assert said[-1].endswith("and what was received")
    assert installed.library.installed is None


def test_a_service_that_a_window_still_shows_is_deleted_later(installed: Windows, manager: WindowsManager) -> None:
    installed.library.is_kept = True
    said, _ = carry_out(manager.delete())
    assert "close Services and the Task Manager" in said[0]


# --- query ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "state", "facts"),
    [
        (RUNNING, State.RUNNING, ["its ini says DCMSTORE on port 104", "process 77, since noon of 77"]),
        (STARTING[0], State.STARTING, ["process 77, since noon of 77"]),
        (STOPPING[0], State.STOPPING, ["process 77, since noon of 77"]),
        (STOPPED, State.STOPPED, []),
        (Progress(winsvc.SERVICE_STOPPED, 1077), State.STOPPED, []),  # never started since the machine was
    ],
)
def test_a_query_says_what_the_service_does(
    installed: Windows, manager: WindowsManager, ini: Path, progress: Progress, state: State, facts: list[str]
) -> None:
    installed.library.states = [progress]
    status = manager.query()
    assert (status.state, status.ini) == (state, ini)
    assert status.facts == (*facts, "runs as NT AUTHORITY\\LocalService")


def test_a_query_says_why_a_service_ended(installed: Windows, manager: WindowsManager) -> None:
    installed.library.states = [FAILED]
    assert manager.query().facts[0].startswith("it could not start, or went wrong; DcmStore.log beside the ini")


def test_a_query_says_what_is_not_installed_or_somebody_elses(windows: Windows, manager: WindowsManager) -> None:
    assert manager.query().state is State.NOT_INSTALLED
    windows.library.installed = Setup(r"C:\DcmStore\DcmStoreService.exe", "LocalSystem")
    assert manager.query().ini is None
    assert manager.query().facts[0] == r"not dcmstore's: C:\DcmStore\DcmStoreService.exe"


def test_a_query_needs_no_administrator(installed: Windows, manager: WindowsManager) -> None:
    installed.library.refusals["administrator"] = 1
    assert manager.query().state is State.STOPPED


# --- reload --------------------------------------------------------------------------------------


def answered(windows: Windows, ini: Path, line: str) -> None:
    def on_change(call: str) -> None:
        with ini.with_name("DcmStore.log").open("a", encoding="utf-8") as file:
            file.write(f"2026-01-02T00:00:00.000+01:00 {line}\n")

    windows.library.on_change = on_change


def test_reload_is_the_control_for_changed_parameters(installed: Windows, manager: WindowsManager, ini: Path) -> None:
    installed.library.states = [RUNNING]
    answered(installed, ini, 'INFO    config.reloaded changed="localAE, port" ae=OTHER')
    said, _ = carry_out(manager.reload())
    assert said == ["reloaded; changed: localAE, port"]
    assert installed.changes == [("ControlService", 6, 0x0040)]  # PARAMCHANGE, by who may pause and continue


def test_settings_that_the_receiver_can_not_use_are_told(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    installed.library.states = [RUNNING]
    answered(installed, ini, 'ERROR   config.not_reloaded reason="port 104: taken" in_force="the settings from before"')
    with pytest.raises(ServiceError) as caught:
        carry_out(manager.reload())
    assert str(caught.value) == "not reloaded: port 104: taken; the settings from before stay in force"


def test_a_reload_that_fails_says_when_the_ini_names_folders_without_rights(
    installed: Windows, manager: WindowsManager, ini: Path
) -> None:
    add_line(ini, "IMG-DIR= new")
    installed.library.states = [RUNNING]
    answered(installed, ini, 'ERROR   config.not_reloaded reason="no right" in_force="the settings from before"')
    with pytest.raises(ServiceError, match=r"no right; .*\n.*`dcmstore service install` once more"):
        carry_out(manager.reload())


def test_a_reload_without_an_answer_in_the_log_is_not_called_done(installed: Windows, manager: WindowsManager) -> None:
    installed.library.states = [RUNNING]
    said, _ = carry_out(manager.reload())
    assert said[0].startswith("asked to read its ini again; the log has no answer yet")


@pytest.mark.parametrize("line", ["port= eleven", "profile= CT"])
def test_a_broken_ini_is_not_reloaded(installed: Windows, manager: WindowsManager, ini: Path, line: str) -> None:
    installed.library.states = [RUNNING]
    ini.write_text(line, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="the settings from before stay in force"):
        manager.reload()
    assert installed.changes == []


def test_what_does_not_run_is_not_reloaded(installed: Windows, manager: WindowsManager) -> None:
    with pytest.raises(ServiceError, match="it reads its ini at the next start"):
        manager.reload()


# --- what does not depend on a manager -----------------------------------------------------------


def test_every_handle_is_closed(installed: Windows, manager: WindowsManager, ini: Path) -> None:
    states_after(installed, "StartServiceW", RUNNING)
    carry_out(manager.start())
    manager.query()
    states_after(installed, "ControlService", STOPPED)
    carry_out(manager.stop())
    installed.library.refusals["StartServiceW"] = winsvc.ERROR_ACCESS_DENIED
    with pytest.raises(ServiceError):
        carry_out(manager.start())
    assert installed.library.open_handles == 0


def test_the_sid_is_made_as_windows_makes_it() -> None:
    """The one of TrustedInstaller is the same on every Windows machine."""
    expected = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
    assert windows_rights.service_sid("TrustedInstaller") == expected
    assert windows_rights.service_sid() == SID


@pytest.mark.parametrize(
    ("structure", "size"),
    [
        (winsvc.SERVICE_STATUS, 28),
        (winsvc.SERVICE_STATUS_PROCESS, 36),
        (winsvc.QUERY_SERVICE_CONFIGW, 64),
        (winsvc.SERVICE_TABLE_ENTRYW, 16),
        (winsvc.SC_ACTION, 8),
        (winsvc.SERVICE_FAILURE_ACTIONSW, 40),
        (winsvc.SERVICE_FAILURE_ACTIONS_FLAG, 4),
        (winsvc.SERVICE_SID_INFO, 4),
        (winsvc.SERVICE_PRESHUTDOWN_INFO, 4),
    ],
)
def test_structures_are_as_large_as_on_64_bit_windows(structure: type[ctypes.Structure], size: int) -> None:
    assert ctypes.sizeof(structure) == size


def test_the_service_of_a_virtual_environment_runs_without_it() -> None:
    """Its python.exe only starts another one on Windows, so the service is started by that one, and finds dcmstore."""
    program = Program.present()
    python, (isolated, host) = Path(sys.base_prefix) / "python.exe", program.options
    assert program.python == str(python)
    assert isolated == "-I"
    assert program.command_line("C:\\a b.ini") == f'"{python}" -I {host} "C:\\a b.ini"'
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    done = subprocess.run([base, "-I", host.strip('"'), "a b.ini"], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "NotImplementedError: Windows only"
