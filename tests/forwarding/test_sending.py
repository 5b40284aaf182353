"""How objects go to a peer, and what becomes of a job when they do not."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dcmstore.forwarding import sending
from dcmstore.forwarding.peers import Peer
from dcmstore.jobs.work import JobFailed
from dcmstore.storage import part10
from dcmstore.ul.items import ContextResult, ProposedContext
from dcmstore.ul.pdu import AAssociateRJ
from tests.forwarding.support import (
    EXPLICIT,
    PATIENT,
    QUICK,
    WAIT,
    Act,
    Came,
    FakePeer,
    Told,
    file_of,
    job,
    sender,
)
from tests.support import CT, MR, data_set, free_port

PRIVATE = "1.3.46.670589.11.0.0.12.1"


def proposals(peer: FakePeer) -> list[list[tuple[str, tuple[str, ...]]]]:
    """What was proposed in each association."""
    return [
        [(context.abstract_syntax, context.transfer_syntaxes) for context in request.presentation_contexts]
        for request in peer.requests
    ]


def failure(handler: sending.ForwardHandler, target: str, path: Path, **facts: str | int) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        handler.do(job(target, path, **facts))
    assert str(path) not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


# --- what goes -----------------------------------------------------------------------------------


def test_an_object_is_proposed_as_it_is_and_goes_as_it_is(tmp_path: Path) -> None:
    path = file_of(tmp_path, "1.2.3.4", b"\0" * 7, PRIVATE, "1.2.3.4.5")  # of odd length, and no data set at all
    with FakePeer().listening() as peer, sender() as handler:
        handler.do(job(peer.target, path))
    assert proposals(peer) == [[(PRIVATE, ("1.2.3.4.5",))]]
    assert peer.came == [Came(PRIVATE, "1.2.3.4.5", "1.2.3.4", b"\0" * 7)]
    assert (peer.requests[0].called_ae_title, peer.requests[0].calling_ae_title) == ("PACS", "DCMSTORE")


@pytest.mark.parametrize("max_length", [0, 7, 16, 4097, 16384])
@pytest.mark.parametrize("size", [1, 2, 9, 10, 11, 4092, 65530, 150_001])
def test_no_length_of_pdu_changes_a_data_set(tmp_path: Path, max_length: int, size: int) -> None:
    if max_length in (7, 16) and size > 5000:
        size = 5000
    encoded = bytes(index % 251 for index in range(size))
    with FakePeer(max_length=max_length).listening() as peer, sender() as handler:
        handler.do(job(peer.target, file_of(tmp_path, encoded=encoded)))
    assert [came.data_set for came in peer.came] == [encoded]


def test_a_bare_data_set_is_announced_as_the_facts_have_it(tmp_path: Path) -> None:
    path = tmp_path / "1.2.3.4.dcm"
    path.write_bytes(data_set())
    with FakePeer().listening() as peer, sender() as handler:
        handler.do(job(peer.target, path))
    assert peer.came == [Came(CT, EXPLICIT, "1.2.3.4", data_set())]


def test_an_object_is_announced_as_it_calls_itself(tmp_path: Path) -> None:
    path = tmp_path / "1.2.3.4.dcm"
    path.write_bytes(part10.encode(part10.FileMeta(CT, "1.9.9", EXPLICIT)) + data_set(sop_class=MR))
    with FakePeer().listening() as peer, sender() as handler:
        handler.do(job(peer.target, path))
    assert peer.came == [Came(MR, EXPLICIT, "1.2.3.4", data_set(sop_class=MR))]


def test_a_file_that_was_replaced_is_sent_as_it_is_now(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    waiting = job("", path)
    file_of(tmp_path, sop_class=MR)
    with FakePeer().listening() as peer, sender() as handler:
        handler.do(replace(waiting, target=peer.target))
    assert peer.came == [Came(MR, EXPLICIT, "1.2.3.4", data_set(sop_class=MR))]


def test_an_ae_title_alone_is_where_the_peers_say_now(tmp_path: Path) -> None:
    known: dict[str, Peer] = {}
    with FakePeer().listening() as peer, sender(peers=known) as handler:
        told = failure(handler, "PACS", file_of(tmp_path))
        assert not told.is_final
        assert "peers= does not say where PACS is; add PACS@host:port to it" in str(told)
        known["PACS"] = Peer("PACS", "127.0.0.1", peer.port)
        handler.do(job("PACS", file_of(tmp_path)))
    assert len(peer.came) == 1


def test_an_object_that_came_from_the_peer_is_not_sent_back_to_a_host_with_a_name(tmp_path: Path) -> None:
    told = Told()
    with FakePeer().listening() as peer, sender(told) as handler:
        target = f"PACS@localhost:{peer.port}"
        handler.do(job(target, file_of(tmp_path), calling_ae_title="PACS", host="127.0.0.1"))
        assert peer.came == []
        handler.do(job(target, file_of(tmp_path), calling_ae_title="CT1", host="127.0.0.1"))
    assert len(peer.came) == 1
    assert told.facts == [("forward.returned", {"target": target, "uid": "1.2.3.4"})]


# --- one association for many --------------------------------------------------------------------


def test_one_association_carries_many_objects(tmp_path: Path) -> None:
    uids = [f"1.2.3.{number}" for number in range(20)]
    with FakePeer().listening() as peer, sender() as handler:
        for uid in uids:
            handler.do(job(peer.target, file_of(tmp_path, uid)))
    assert [came.sop_instance_uid for came in peer.came] == uids
    assert len(peer.requests) == 1
    assert peer.end() == "released"


def test_an_association_that_nobody_uses_is_released(tmp_path: Path) -> None:
    with FakePeer().listening() as peer, sender(idle=0.01) as handler:
        handler.do(job(peer.target, file_of(tmp_path)))
        assert peer.end() == "released"
        handler.do(job(peer.target, file_of(tmp_path)))
    assert len(peer.requests) == 2


def test_what_is_new_renews_the_association_with_all_that_was_seen(tmp_path: Path) -> None:
    ct, mr = file_of(tmp_path, "1.2.1"), file_of(tmp_path, "1.2.2", sop_class=MR)
    with FakePeer().listening() as peer, sender() as handler:
        handler.do(job(peer.target, ct))
        handler.do(job(peer.target, mr))
        assert peer.end() == "released"  # the first one: a peer may have few to give
        for path in (ct, mr, ct):
            handler.do(job(peer.target, path))
    assert proposals(peer) == [[(CT, (EXPLICIT,))], [(MR, (EXPLICIT,)), (CT, (EXPLICIT,))]]
    assert len(peer.came) == 5


def test_no_more_is_proposed_than_one_association_holds(tmp_path: Path) -> None:
    with FakePeer().listening() as peer, sender() as handler:
        for number in range(130):
            handler.do(job(peer.target, file_of(tmp_path, sop_class=f"1.2.3.{number}")))
        assert len(peer.came) == 130
    assert max(map(len, proposals(peer))) == 128
    assert proposals(peer)[-1][0] == ("1.2.3.129", (EXPLICIT,))


def test_two_objects_at_once_go_over_two_associations(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def answer(_: int) -> int:
        both.wait(WAIT)
        return 0

    with FakePeer(answer=answer).listening() as peer, sender() as handler:
        paths = [file_of(tmp_path, f"1.2.3.{number}") for number in range(2)]
        threads = [threading.Thread(target=handler.do, args=(job(peer.target, path),)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    assert len(peer.requests) == 2
    assert len(peer.came) == 2


def test_an_association_that_the_peer_closed_meanwhile_is_no_failure(tmp_path: Path) -> None:
    with FakePeer(closes_when_idle=True).listening() as peer, sender() as handler:
        for number in range(3):
            handler.do(
                job(
                    peer.target,
                    file_of(tmp_path, f"1.2.3.{number}", data_set(f"1.2.3.{number}", pixels=bytes(300_000))),
                )
            )
            assert peer.end() == "done"
    assert {came.sop_instance_uid for came in peer.came} == {"1.2.3.0", "1.2.3.1", "1.2.3.2"}


# --- what a peer answers -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0x0000, 0x0111])
def test_what_the_peer_has_is_done_without_a_word(tmp_path: Path, status: int) -> None:
    told = Told()
    with FakePeer(answer=lambda _: status).listening() as peer, sender(told) as handler:
        handler.do(job(peer.target, file_of(tmp_path)))
    assert told.facts == []


@pytest.mark.parametrize("status", [0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xBFFF])
def test_a_warning_is_done_and_told(tmp_path: Path, status: int) -> None:
    told = Told()
    with FakePeer(answer=lambda _: status).listening() as peer, sender(told) as handler:
        handler.do(job(peer.target, file_of(tmp_path)))
    facts = {"target": peer.target, "uid": "1.2.3.4", "answer": f"status {status:04X}H"}
    assert told.facts == [("forward.warned", facts)]


@pytest.mark.parametrize(
    ("status", "is_final", "words"),
    [
        (0xA700, False, "A700H (out of resources)"),
        (0xA7FF, False, "A7FFH (out of resources)"),
        (0xC000, False, "C000H (cannot understand)"),
        (0xC211, False, "C211H (cannot understand)"),
        (0x0110, False, "0110H (processing failure)"),
        (0x0124, False, "0124H (not authorized)"),
        (0x0211, False, "0211H (unrecognized operation)"),
        (0xD123, False, "D123H"),
        (0xA800, False, "A800H"),
        (0x0117, True, "0117H (invalid SOP instance)"),
        (0x0122, True, "0122H (SOP class not supported)"),
        (0xA900, True, "A900H (data set does not match SOP class)"),
        (0xA9FF, True, "A9FFH (data set does not match SOP class)"),
    ],
)
def test_a_refusal_is_final_where_it_is_about_the_object(
    tmp_path: Path, status: int, is_final: bool, words: str
) -> None:
    with FakePeer(answer=lambda _: status).listening() as peer, sender() as handler:
        told = failure(handler, peer.target, file_of(tmp_path))
        assert (told.is_final, str(told)) == (is_final, f"the peer refused it with status {words}")
        assert told.is_about_one is (status not in (0xA700, 0xA7FF, 0x0124))
        assert "Jane" not in str(told)


def test_after_a_refusal_the_association_goes_on(tmp_path: Path) -> None:
    with FakePeer(answer=lambda number: 0xC000 if number == 1 else 0).listening() as peer, sender() as handler:
        failure(handler, peer.target, file_of(tmp_path))
        handler.do(job(peer.target, file_of(tmp_path)))
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("result", "is_final", "words"),
    [
        (ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, True, "; make the peer take this SOP class, and try again"),
        (
            ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED,
            True,
            "; make the peer take this transfer syntax; nothing is converted here, and try again",
        ),
        (ContextResult.USER_REJECTION, False, " now"),
        (ContextResult.NO_REASON, False, " now"),
    ],
)
def test_what_the_peer_does_not_take_is_not_sent(
    tmp_path: Path, result: ContextResult, is_final: bool, words: str
) -> None:
    with FakePeer(accept=lambda _: result).listening() as peer, sender() as handler:
        told = failure(handler, peer.target, file_of(tmp_path))
        expected = f"the peer does not take CT Image Storage in Explicit VR Little Endian{words}"
        assert (told.is_final, str(told)) == (is_final, expected)
        assert told.is_about_one
        assert peer.came == []
        assert peer.end() == "released"


def test_what_is_not_taken_holds_up_nothing_else(tmp_path: Path) -> None:
    def accept(context: ProposedContext) -> ContextResult:
        is_ct = context.abstract_syntax == CT
        return ContextResult.ACCEPTANCE if is_ct else ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED

    ct, mr = file_of(tmp_path, "1.2.1"), file_of(tmp_path, "1.2.2", sop_class=MR)
    with FakePeer(accept=accept).listening() as peer, sender() as handler:
        for _ in range(3):
            failure(handler, peer.target, mr)
            handler.do(job(peer.target, ct))
    assert [came.sop_class_uid for came in peer.came] == [CT] * 3


def test_a_rejection_of_the_association_is_tried_again_and_told(tmp_path: Path) -> None:
    with FakePeer(rejection=AAssociateRJ(1, 1, 7)).listening() as peer, sender() as handler:
        told = failure(handler, peer.target, file_of(tmp_path))
    assert not told.is_final
    expected = f"127.0.0.1 port {peer.port}: association rejected: called-AE-title-not-recognized"
    assert str(told) == expected


# --- trouble on the way --------------------------------------------------------------------------


def test_a_peer_that_is_down_gets_it_when_it_is_up(tmp_path: Path) -> None:
    path, port = file_of(tmp_path), free_port()
    with sender() as handler:
        told = failure(handler, f"PACS@127.0.0.1:{port}", path)
        assert not told.is_final
        assert "refused" in str(told)
        with FakePeer().listening(port) as peer:
            handler.do(job(peer.target, path))
            assert len(peer.came) == 1


def test_a_host_that_does_not_exist_is_tried_again(tmp_path: Path) -> None:
    with sender() as handler:
        told = failure(handler, "PACS@no-such-host.invalid:104", file_of(tmp_path))
    assert not told.is_final
    assert str(told).startswith("no-such-host.invalid port 104: ")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (Act.CLOSE, "the peer closed the connection"),
        (Act.ABORT, "AAbort came in place of a response"),
        (Act.HANG, "no answer within 0.3 s"),
        (Act.DRIBBLE, "no answer within 0.3 s"),
        (Act.RUBBISH, "what answers is not DICOM"),
        (Act.ANOTHER_MESSAGE, "C-STORE-RSP to message 2 came in place of C-STORE-RSP to message 1"),
        (Act.NO_STATUS, "C-STORE answered without a Status"),
    ],
)
def test_what_was_not_answered_is_tried_again(tmp_path: Path, act: Act, words: str) -> None:
    with FakePeer(answer=lambda _: act).listening() as peer, sender(timeouts=QUICK) as handler:
        told = failure(handler, peer.target, file_of(tmp_path))
    assert not told.is_final
    assert words in str(told)
    assert len(peer.came) == 1


def test_a_peer_that_answers_a_byte_at_a_time_is_not_waited_for_longer(tmp_path: Path) -> None:
    with FakePeer(dribbles=True).listening() as peer, sender(timeouts=QUICK) as handler:
        told = failure(handler, peer.target, file_of(tmp_path))
        assert "no answer within 0.3 s" in str(told)


def test_a_peer_that_stops_reading_in_the_middle_is_given_up_for_now(tmp_path: Path) -> None:
    path = file_of(tmp_path, encoded=bytes(20_000_000))  # more than the system's buffers hold
    with FakePeer(reads_data=False).listening() as peer, sender(timeouts=QUICK) as handler:
        told = failure(handler, peer.target, path)
    assert not told.is_final
    assert "no answer within 0.3 s" in str(told)


def test_the_end_of_the_receiver_ends_every_wait(tmp_path: Path) -> None:
    with FakePeer(answer=lambda _: Act.HANG).listening() as peer, sender(timeouts=PATIENT) as handler:
        failures: list[JobFailed] = []
        thread = threading.Thread(target=lambda: failures.append(failure(handler, peer.target, file_of(tmp_path))))
        thread.start()
        assert peer.has_data.wait(WAIT)
        handler.close()
        thread.join(WAIT / 2)
        assert not thread.is_alive()
        assert not failures[0].is_final
        assert str(failure(handler, peer.target, file_of(tmp_path))) == "the receiver stops"


# --- files ---------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_given_up(tmp_path: Path) -> None:
    file_of(tmp_path, "1.2.3.5")
    with sender() as handler:
        told = failure(handler, "PACS@127.0.0.1:104", tmp_path / "1.2.3.4.dcm")
    assert told.is_final
    assert str(told) == "its file is gone: moved or deleted before it was sent"


def test_files_whose_disk_is_away_are_waited_for(tmp_path: Path) -> None:
    with sender() as handler:
        (tmp_path / ".incoming").mkdir()
        for root in (tmp_path, tmp_path / "unmounted"):  # a mount point with what a receiver makes in it, or none
            told = failure(handler, "PACS@127.0.0.1:104", root / "1.2.3.4.dcm")
            assert (told.is_final, told.is_about_one) == (False, True)
            assert "is its disk away?" in str(told)


def test_a_file_that_was_cut_off_in_its_head_is_given_up(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    path.write_bytes(path.read_bytes()[:150])
    with sender() as handler:
        told = failure(handler, "PACS@127.0.0.1:104", path)
    assert told.is_final
    assert "its file is damaged: " in str(told)


@pytest.mark.parametrize(
    ("meta", "encoded", "words"),
    [
        (("", "", ""), b"", "its file has no data set"),
        (("x", "1.2", EXPLICIT), b"1", "no usable SOP Class, SOP Instance and Transfer Syntax UID"),
        (("1.2", "1.2", "x"), b"1", "no usable SOP Class, SOP Instance and Transfer Syntax UID"),
    ],
)
def test_what_nobody_could_send_is_given_up(
    tmp_path: Path, meta: tuple[str, str, str], encoded: bytes, words: str
) -> None:
    path = tmp_path / "1.2.3.4.dcm"
    path.write_bytes(part10.encode(part10.FileMeta(*meta)) + encoded)
    with sender() as handler:
        told = failure(handler, "PACS@127.0.0.1:104", path)
    assert told.is_final
    assert words in str(told)


def test_a_file_that_becomes_shorter_meanwhile_is_not_sent_as_a_whole(tmp_path: Path) -> None:
    path = file_of(tmp_path, encoded=bytes(40_000_000))

    def accept(_: ProposedContext) -> ContextResult:
        with path.open("r+b") as file:
            file.truncate(30_000_000)
        return ContextResult.ACCEPTANCE

    with FakePeer(accept=accept).listening() as peer, sender() as handler:
        told = failure(handler, peer.target, path)
        assert str(told) == "its file can't be read: it became shorter while it was sent"
        assert not told.is_final
        assert peer.end() == "aborted"
        assert peer.came == []
