"""Room on the disk: images stop before it is full, structured reports may use the rest, and no object is endless."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dcmstore.errors import OutOfResources, ProtocolError
from dcmstore.settings import Settings
from dcmstore.storage import space
from dcmstore.storage.space import LOOK_EVERY, MAX_PASSED_OVER, MEGABYTE, Allowance, FreeSpace
from dcmstore.ul.pdu import AAbort
from tests import support
from tests.support import CT, XRAY_DOSE_SR, Peer, data_set


class Disk:
    """What the system says of the disk, and how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 0
        self.asked = 0
        monkeypatch.setattr(space.shutil, "disk_usage", self._usage)

    def _usage(self, folder: str) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(free=self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[support.Receiver]:
    """A receiver that wants more free space than its disk has."""
    wanted = shutil.disk_usage(tmp_path).total // MEGABYTE
    with support.running(tmp_path, replace(Settings(), min_free_space=wanted)) as receiver:
        yield receiver


def test_an_image_is_refused_and_nothing_of_it_is_written(full: support.Receiver) -> None:
    with Peer(full.port) as peer:
        peer.associate(CT)
        response = peer.store(data_set())
        peer.release()
    assert response.status == 0xA700
    assert response.error_comment is not None
    assert response.error_comment.startswith("IMG-DIR: less than min-free-space= ")
    assert full.files() == []


def test_a_dose_report_still_lands(full: support.Receiver) -> None:
    with Peer(full.port) as peer:
        peer.associate(XRAY_DOSE_SR)
        assert peer.store(data_set(sop_class=XRAY_DOSE_SR), sop_class=XRAY_DOSE_SR).status == 0
        peer.release()
    assert [path.parent for path in full.files()] == [full.rdsr]


def test_room_is_noticed_again_without_a_restart(disk: Disk) -> None:
    now = [0.0]
    free = FreeSpace("IMG-DIR", "/", 10, clock=lambda: now[0])
    with pytest.raises(OutOfResources):
        free.require()
    disk.free = 10
    now[0] = LOOK_EVERY
    free.require()


def test_the_disk_is_asked_seldom(disk: Disk) -> None:
    disk.free = 10
    free = FreeSpace("IMG-DIR", "/", 10, clock=lambda: 1.0)
    for _ in range(100):
        free.require()
    assert disk.asked == 1


def test_without_a_limit_the_disk_is_never_asked(disk: Disk) -> None:
    FreeSpace("IMG-DIR", "/", 0).require()
    assert disk.asked == 0


def test_a_long_object_is_stopped_when_the_space_gets_short_on_its_way(disk: Disk) -> None:
    now = [0.0]
    disk.free = 10
    allowance = Allowance(0, FreeSpace("IMG-DIR", "/", 10, clock=lambda: now[0]))
    allowance.require(1)
    disk.free, now[0] = 9, 1.0
    with pytest.raises(OutOfResources):
        allowance.require(allowance.next_look + 1)


@pytest.mark.parametrize("times", [1, 2, 10])
def test_an_object_that_is_too_large_is_refused_and_nothing_of_it_is_kept(tmp_path: Path, times: int) -> None:
    with support.running(tmp_path, Settings(max_object_size=1)) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        response = peer.store(data_set(pixels=bytes(times * MEGABYTE)))
        assert response.status == 0xA700
        assert response.error_comment == "larger than max-object-size= 1 MB"
        assert receiver.files() == []
        assert peer.store(data_set()).status == 0  # the association goes on


def test_an_object_of_the_largest_size_is_taken(tmp_path: Path) -> None:
    fill = MEGABYTE - len(data_set(pixels=b""))
    with support.running(tmp_path, Settings(max_object_size=1)) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        assert peer.store(data_set(pixels=bytes(fill))).status == 0


def test_an_endless_object_ends_the_association(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "MAX_PASSED_OVER", MEGABYTE)
    with support.running(tmp_path, Settings(max_object_size=1)) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        endless = data_set(pixels=bytes(3 * MEGABYTE))
        try:
            peer.send(support.store_request(endless)[: -len(endless) // 3])
            assert isinstance(peer.receive(), AAbort)
        except (BrokenPipeError, ConnectionResetError):  # it had enough before all was sent
            pass
    assert "length of the data set: got" in receiver.log_text.getvalue()
    assert receiver.files() == []


def test_what_is_passed_over_has_an_end() -> None:
    allowance = Allowance(10, None)
    allowance.pass_over(10 + MAX_PASSED_OVER)
    with pytest.raises(ProtocolError):
        allowance.pass_over(11 + MAX_PASSED_OVER)
