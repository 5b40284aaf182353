"""A receiver under its host: it starts, reloads and stops as it is asked to, and says so."""

import contextlib
import errno
import os
import socket
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore import receiver
from dcmstore.errors import ConfigurationError
from dcmstore.hosting import Request
from tests.hosted import Running, running_in
from tests.support import Peer, data_set, free_port, wait_until


@pytest.fixture(params=[1, 2], ids=["alone", "with-workers"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    """What holds of a receiver holds of one with workers."""
    with running_in(tmp_path, request.param) as process:
        yield process


def images_of(running: Running, folder: str = "images") -> list[str]:
    return sorted(path.name for path in (running.folder / folder).rglob("*.dcm"))


def store_one(port: int) -> None:
    with Peer(port) as peer:
        peer.associate()
        assert peer.store(data_set()).status == 0
        peer.release()


def started_and_refused(running: Running) -> int:
    """The port of a receiver that was to get an index and DICOMDIRs, together with an address that it can't have."""
    port = free_port()
    running.configure(port=port)
    running.start()
    running.configure(port=port, index=1, dicomdir=1, hook_timeout=7, bind="192.0.2.1")
    running.reload()
    return port


def test_a_reload_lets_an_open_association_go_on_as_it_was(running: Running) -> None:
    running.configure(port=(port := free_port()), order_by_study=1)
    running.start()
    with Peer(port) as peer:
        peer.associate()
        peer.store(data_set("1.2.1"), "1.2.1")
        running.configure(port=port, folder_tree=0)
        running.reload()
        assert peer.store(data_set("1.2.2"), "1.2.2").status == 0
        peer.release()
    assert (running.folder / "images/PAT1/7/3/1.2.2.dcm").exists()
    with Peer(port) as peer:
        peer.associate()
        peer.store(data_set("1.2.3"), "1.2.3")
        peer.release()
    assert (running.folder / "images/1.2.3.dcm").exists()


def test_a_reload_can_change_folders_and_leaves_nothing_behind_in_the_old_one(running: Running) -> None:
    running.configure(port=(port := free_port()))
    running.start()
    (running.folder / "other").mkdir()
    with Peer(port) as peer:
        peer.associate()
        running.configure(port=port, IMG_DIR="other")
        running.reload()
        assert (running.folder / "images/.incoming").exists()
        peer.store(data_set("1.2.1"), "1.2.1")
        peer.release()
    with Peer(port) as peer:
        peer.associate()
        peer.store(data_set("1.2.2"), "1.2.2")
        peer.release()
    running.stop()
    assert (images_of(running), images_of(running, "other")) == (["1.2.1.dcm"], ["1.2.2.dcm"])
    assert not (running.folder / "images/.incoming").exists()


def test_a_reload_lets_go_of_the_old_folder_with_the_last_association_that_used_it(running: Running) -> None:
    running.configure(port=(port := free_port()))
    running.start()
    (running.folder / "other").mkdir()
    running.configure(port=port, IMG_DIR="other")
    running.reload()
    wait_until(lambda: not (running.folder / "images/.incoming").exists())
    assert (running.folder / "other/.incoming").exists()


def test_a_reload_can_change_the_port(running: Running) -> None:
    old, new = free_port(), free_port()
    running.configure(port=old)
    running.start()
    with Peer(old) as peer:
        peer.associate()
        running.configure(port=new)
        running.reload()
        with Peer(new) as newcomer:
            newcomer.associate()
            newcomer.release()
        assert peer.store(data_set()).status == 0
        peer.release()
    running.stop()
    with pytest.raises(ConnectionRefusedError):
        Peer(old)
    assert running.exit_code == 0


def test_a_connection_that_waits_at_the_old_port_is_served_after_a_reload(running: Running) -> None:
    old = free_port()
    running.configure(port=old)
    running.start()
    peers = [Peer(old) for _ in range(20)]
    running.configure(port=free_port())
    running.reload()
    for peer in peers:
        peer.associate()
        peer.release()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"port": "eleven"}, "port= 'eleven': allowed is"),
        ({"IMG_DIR": "nowhere"}, "nowhere does not exist"),
        ({"profile": "CT"}, "profile= 'CT'"),
        ({"bind": "192.0.2.1"}, "192.0.2.1"),
        ({"bind": "192.168.1..5"}, "bind= '192.168.1..5': not an address"),
    ],
)
def test_a_broken_ini_keeps_the_settings_from_before(running: Running, change: dict[str, object], reason: str) -> None:
    port = free_port()
    running.configure(port=port, localAE="BEFORE", check_called_ae=0)
    running.start()
    running.configure(**{"port": port, "localAE": "AFTER", "check_called_ae": 1, **change})
    running.reload()
    store_one(port)
    running.stop()
    (line,) = running.logged("config.not_reloaded")
    assert reason in line
    assert not running.logged("config.reloaded")


def test_nothing_is_made_for_settings_that_are_refused(running: Running) -> None:
    port = started_and_refused(running)
    store_one(port)
    running.configure(port=port, index=0)
    running.reload()
    running.stop()
    assert running.logged("config.not_reloaded")
    assert not running.logged("config.warning")
    assert not [
        path.name for path in running.folder.iterdir() if path.name.startswith(("DcmStore.index", "DcmStore.q"))
    ]
    assert not list(running.folder.rglob("DICOMDIR"))


def test_what_was_refused_once_is_made_when_it_can_be(running: Running) -> None:
    port = started_and_refused(running)
    running.configure(port=port, index=1, dicomdir=1)
    running.reload()
    store_one(port)
    running.stop()
    assert not running.logged("config.warning")
    assert list(running.folder.rglob("DICOMDIR"))
    with contextlib.closing(sqlite3.connect(running.folder / "DcmStore.index")) as index:
        assert index.execute("SELECT count(*) FROM instances").fetchone() == (1,)


def test_a_port_that_is_taken_keeps_the_one_from_before(running: Running) -> None:
    port = free_port()
    running.configure(port=port)
    running.start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        running.configure(port=taken, IMG_DIR="other")
        (running.folder / "other").mkdir()
        running.reload()
        store_one(port)
    running.stop()
    assert f"port {taken}: taken by " in running.logged("config.not_reloaded")[0]
    assert images_of(running) == ["1.2.3.4.dcm"]
    assert not (running.folder / "other/.incoming").exists()


def test_another_address_on_the_same_port_takes_a_restart_and_says_so(running: Running) -> None:
    running.configure(port=(port := free_port()))
    running.start()
    running.configure(port=port, bind="")
    running.reload()
    with Peer(port) as peer:
        peer.associate()
        peer.release()
    running.stop()
    (line,) = running.logged("config.not_reloaded")
    assert f"port {port}: this receiver listens on it at another address" in line


def test_a_share_that_fails_during_a_reload_leaves_the_receiver_at_work(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.configure(port=(port := free_port()))
    running.start()

    def fail(path: Path) -> receiver.Reading:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr(receiver, "read", fail)
    running.reload()
    store_one(port)
    running.stop()
    assert "Stale file handle" in running.logged("config.not_reloaded")[0]


@pytest.mark.skipif(os.name == "nt", reason="permissions of files are Linux's")
def test_files_that_a_reload_makes_have_the_permissions_that_it_brings(running: Running) -> None:
    before = os.umask(0)
    try:
        running.configure(port=(port := free_port()), permissions="0664")
        running.start()
        running.configure(port=port, permissions="0600", audit="file")
        running.reload()
        running.stop()
    finally:
        os.umask(before)
    assert stat.S_IMODE((running.folder / "DcmStore.audit").stat().st_mode) == 0o600


def test_a_reload_says_which_keys_have_changed(running: Running) -> None:
    running.configure(port=(port := free_port()))
    running.start()
    running.configure(port=port, localAE="OTHER", idle_timeout=5)
    running.reload()
    running.reload()
    running.stop()
    first, second = running.logged("config.reloaded")
    assert 'changed="localAE, idle-timeout" ae=OTHER' in first
    assert "changed=nothing" in second


def test_a_reload_lists_what_took_effect_and_says_of_the_rest_when_it_counts(running: Running) -> None:
    running.configure()
    running.start()
    running.configure(workers=3, idle_timeout=7)
    running.reload()
    running.reload()
    running.configure(idle_timeout=7)
    running.reload()
    running.stop()
    lists = [line.partition("changed=")[2].split(" ")[0] for line in running.logged("config.reloaded")]
    assert lists == ["idle-timeout", "nothing", "nothing"]
    warnings = [line for line in running.logged("config.warning") if "workers=" in line]
    assert len(warnings) == 2
    assert all("workers= 3 counts from the next start; until then it is " in line for line in warnings)


def test_what_hooks_have_from_the_start_is_not_listed_as_changed_either(running: Running) -> None:
    running.configure(index=1)
    running.start()
    running.configure(index=1, hook_timeout=7, webhook_secret="new.key")
    running.reload()
    running.stop()
    assert "changed=nothing" in running.logged("config.reloaded")[0]
    timeout, secret = running.logged("config.warning")
    assert "hook-timeout= 7 counts from the next start; until then it is 300" in timeout
    assert "/new.key counts from the next start; until then it is empty" in secret


def test_a_reload_can_turn_the_log_up_and_its_file_off(running: Running) -> None:
    running.configure(port=(port := free_port()), log_level="error")
    running.start()
    running.configure(port=port, log_level="debug")
    running.reload()
    with Peer(port) as peer:
        peer.associate()
        peer.release()
    running.configure(port=port, logfile=0)
    running.reload()
    running.stop()
    assert not running.logged("receiver.listening")
    assert running.logged("<")
    assert not running.logged("receiver.stopped")


def test_many_reloads_leave_no_descriptor_behind(running: Running) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    running.start()
    for _ in range(20):
        running.configure(port=free_port())
        running.reload()
    running.stop()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_reload_can_switch_the_dicomdir_on_and_off_again(running: Running) -> None:
    running.configure(port=(port := free_port()))
    running.start()
    for dicomdir in (1, 0, 1):
        running.configure(port=port, dicomdir=dicomdir)
        running.reload()
    with Peer(port) as peer:
        peer.associate()
        peer.store(data_set())
        peer.release()
    running.stop()
    assert (running.folder / "images/PAT1/DICOMDIR").exists()


@pytest.mark.parametrize(("permissions", "of_files", "of_folders"), [("0640", 0o640, 0o750), ("0664", 0o664, 0o775)])
def test_files_and_folders_get_the_permissions_of_the_ini(
    running: Running, permissions: str, of_files: int, of_folders: int
) -> None:
    running.configure(port=(port := free_port()), permissions=permissions)
    running.start()
    with Peer(port) as peer:
        peer.associate()
        peer.store(data_set())
        peer.release()
    running.stop()
    for path in (running.folder / "DcmStore.log", running.folder / "images/PAT1/7/3/1.2.3.4.dcm"):
        assert path.stat().st_mode & 0o777 == of_files
    assert (running.folder / "images/PAT1").stat().st_mode & 0o777 == of_folders


def test_a_check_is_answered_with_what_is_going_on(running: Running) -> None:
    running.configure(port=(port := free_port()), localAE="LAB")
    running.start()
    with Peer(port) as peer:
        peer.associate()
        peer.store(data_set())
        answers = set()
        while ("alive", f"LAB on port {port}, 1 associations open, 1 objects stored") not in answers:
            running.host.ask(Request.CHECK)
            answers.add(running.host.answer())
            assert len(answers) <= 2, answers  # counting comes just behind the response


def test_a_stop_says_how_long_it_may_take(running: Running) -> None:
    running.configure(port=free_port(), stop_timeout=7)
    running.start()
    running.stop()
    assert running.host.answer() == ("stopping", 7)
    assert running.exit_code == 0


def test_a_taken_port_ends_it_with_what_to_do(running: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        running.configure(port=other.getsockname()[1])
        running._run()
    assert running.exit_code == 1
    assert "what_to_do=" in running.logged("receiver.failed")[0]
    assert not (running.folder / "images/.incoming").exists()


def test_a_foreign_address_is_an_error_of_the_configuration(running: Running) -> None:
    running.configure(bind="192.0.2.1")
    with pytest.raises(ConfigurationError, match="bind"):
        running._run()
    assert not (running.folder / "images/.incoming").exists()
