"""What came, and time, become events: in order, and none is lost over a crash."""

import threading

import pytest

from dcmstore.index.indexer import Arrival
from dcmstore.studies import associations, rows, tracker
from dcmstore.studies.states import states
from dcmstore.studies.tracker import KEPT
from tests.studies.support import NOON, QUIET, Kept, entry, facts, study_event

COMPLETE = ["study-complete 1.9 quiet"]


def settle(kept: Kept, key: tuple[str, str], *uids: str) -> None:
    with kept.file.transaction() as connection:
        rows.committed(connection, key, uids)


# --- quiet and associations ----------------------------------------------------------------------


def test_a_quiet_study_is_told_once(kept: Kept) -> None:
    assert kept.came(entry("1.1"), entry("1.2")) == ["stored 1.1", "stored 1.2"]
    kept.pass_(QUIET - 1)
    assert kept.due() == []
    kept.pass_(1)
    assert kept.due() == COMPLETE
    kept.pass_(10 * QUIET)
    assert kept.due() == []


def test_each_new_instance_makes_the_study_wait_anew(kept: Kept) -> None:
    kept.came(entry("1.1"))
    kept.pass_(QUIET - 1)
    kept.came(entry("1.2"))
    kept.pass_(QUIET - 1)
    assert kept.due() == []


def test_an_open_association_keeps_its_study_open(kept: Kept) -> None:
    kept.associations.began(4)
    kept.came(entry("1.1"), over=4)
    kept.pass_(100 * QUIET)
    assert kept.due() == []
    kept.associations.ended(4)
    kept.pass_(1)
    assert kept.tracker.is_due(kept.clock)
    assert kept.due() == COMPLETE


def test_an_association_that_carried_another_study_keeps_nothing_open(kept: Kept) -> None:
    kept.associations.began(4)
    kept.came(entry("1.1", study="1.9"))
    kept.came(entry("1.2", study="1.8"), over=4)
    kept.pass_(QUIET)
    assert kept.due() == COMPLETE


def test_two_studies_in_one_association_are_told_apart(kept: Kept) -> None:
    kept.associations.began(4)
    kept.came(entry("1.1", study="1.9"), entry("2.1", study="1.8"), entry("1.2", study="1.9"), over=4)
    kept.associations.ended(4)
    kept.pass_(QUIET / 2)
    kept.came(entry("2.2", study="1.8"))
    kept.pass_(QUIET / 2)
    assert kept.due() == COMPLETE
    kept.pass_(QUIET / 2)
    assert kept.due() == ["study-complete 1.8 quiet"]


def test_of_two_senders_of_one_study_the_last_one_to_end_counts(kept: Kept) -> None:
    for association in (4, 5):
        kept.associations.began(association)
        kept.came(entry(f"1.{association}"), over=association)
    kept.associations.ended(4)
    kept.pass_(QUIET)
    assert kept.due() == []
    kept.associations.ended(5)
    kept.pass_(1)
    assert kept.due() == COMPLETE


def test_one_study_uid_of_two_patients_is_two_studies(kept: Kept) -> None:
    kept.came(entry("1.1", patient="A"), entry("1.2", patient="B"))
    kept.pass_(QUIET)
    events = kept.events()
    assert len(events) == 2
    assert len({study_event([event]).key for event in events}) == 2


def test_what_waits_to_be_entered_holds_its_study_open(kept: Kept) -> None:
    kept.associations.began(4)
    kept.came(entry("1.1"), over=4)
    noted = kept.clock + QUIET + 10  # the oldest instance that is not entered yet came then
    kept.pass_(10 * QUIET)
    kept.associations.ended(4)
    assert kept.due(now=noted) == []


def test_an_association_that_was_never_told_to_begin_keeps_nothing_open(kept: Kept) -> None:
    kept.came(entry("1.1"), over=77)
    kept.pass_(QUIET)
    assert kept.due() == COMPLETE


def test_associations_that_nobody_looks_at_do_not_fill_the_memory(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(associations, "MAX_ASSOCIATIONS", 3)
    kept.associations.began(1)
    kept.came(entry("1.1"), over=1)
    for association in range(2, 20):
        kept.associations.began(association)
        kept.associations.ended(association)
    kept.associations.ended(1)
    assert len(kept.associations._ended) <= 4
    kept.pass_(QUIET)
    assert kept.due() == COMPLETE


def test_any_thread_may_begin_and_end_associations(kept: Kept) -> None:
    def associate(first: int) -> None:
        for association in range(first, first + 500):
            kept.associations.began(association)
            kept.associations.ended(association)

    threads = [threading.Thread(target=associate, args=(1000 * number + 1,)) for number in range(4)]
    for thread in threads:
        thread.start()
    kept.pass_(1)
    while any(thread.is_alive() for thread in threads):
        kept.due()
    kept.pass_(1)
    kept.due()
    assert not kept.tracker.is_due(kept.clock)


# --- counted and committed -----------------------------------------------------------------------


def test_a_study_is_complete_when_the_announced_count_is_here(kept: Kept) -> None:
    kept.came(entry("1.1", announced=2))
    kept.pass_(10)
    assert kept.due() == []
    kept.came(entry("1.2"))
    kept.pass_(5)
    assert kept.due() == ["study-complete 1.9 counted"]


def test_one_instance_that_came_twice_counts_once(kept: Kept) -> None:
    kept.came(entry("1.1", announced=2), entry("1.1", content="another"))
    kept.pass_(10)
    assert kept.due() == []


def test_a_study_is_complete_when_all_of_it_was_committed(kept: Kept) -> None:
    kept.came(entry("1.1"), entry("1.2"))
    settle(kept, ("1.9", "PAT1"), "1.1")
    kept.pass_(10)
    assert kept.due() == []
    settle(kept, ("1.9", "PAT1"), "1.2", "1.99")
    assert kept.due() == ["study-complete 1.9 committed"]


def test_what_came_again_has_to_be_committed_again(kept: Kept) -> None:
    kept.came(entry("1.1"))
    settle(kept, ("1.9", "PAT1"), "1.1")
    kept.came(entry("1.1", content="another"))
    kept.pass_(10)
    assert kept.due() == []


def test_a_commitment_is_seen_within_seconds_whatever_else_is_due(kept: Kept) -> None:
    kept.came(entry("1.1"))
    kept.due()
    settle(kept, ("1.9", "PAT1"), "1.1")
    kept.pass_(tracker.LOOK)
    assert kept.tracker.is_due(kept.clock)
    assert kept.due() == ["study-complete 1.9 committed"]


def test_a_study_is_due_as_soon_as_its_count_is_believed(kept: Kept) -> None:
    kept.due()
    kept.came(entry("1.1", announced=1))
    kept.pass_(4)
    assert not kept.tracker.is_due(kept.clock)
    kept.pass_(1)
    assert kept.tracker.is_due(kept.clock)


def test_commitment_of_a_study_that_nobody_knows_is_no_matter(kept: Kept) -> None:
    settle(kept, ("1.7", "X"), "1.1")
    assert kept.count("studies") == 0


# --- what comes later ----------------------------------------------------------------------------


def completed(kept: Kept) -> None:
    kept.came(entry("1.1"))
    kept.pass_(QUIET)
    assert kept.due() == COMPLETE


def test_a_late_instance_reopens_the_study_which_completes_again(kept: Kept) -> None:
    completed(kept)
    assert kept.came(entry("1.2"), entry("1.3")) == ["study-reopened 1.9", "stored 1.2", "stored 1.3"]
    kept.pass_(QUIET)
    assert kept.due() == COMPLETE


def test_every_opening_has_its_own_key(kept: Kept) -> None:
    keys = set()
    for number in range(3):
        kept.came(entry(f"1.{number}"))
        kept.pass_(QUIET)
        keys.add(study_event(kept.events()).key)
    assert len(keys) == 3


def test_an_identical_instance_reopens_nothing(kept: Kept) -> None:
    completed(kept)
    assert kept.came(entry("1.1", is_new=False, stored=NOON + 100)) == []
    kept.pass_(QUIET)
    assert kept.due() == []


def test_another_content_reopens_the_study(kept: Kept) -> None:
    completed(kept)
    assert kept.came(entry("1.1", content="another", stored=NOON + 100)) == ["study-reopened 1.9", "stored 1.1"]


def test_what_was_taken_away_and_comes_again_is_new(kept: Kept) -> None:
    completed(kept)
    assert kept.came(entry("1.1", stored=NOON + 100)) == ["study-reopened 1.9", "stored 1.1"]


def test_a_study_long_complete_is_forgotten_with_all_of_it(kept: Kept) -> None:
    completed(kept)
    kept.pass_(KEPT + 1)
    kept.due()
    assert [kept.count(table) for table in ("studies", "study_instances", "study_carriers")] == [0, 0, 0]
    assert kept.came(entry("1.2", stored=kept.wall)) == ["stored 1.2"]


def test_a_study_that_still_comes_is_never_forgotten(kept: Kept) -> None:
    kept.associations.began(4)
    kept.came(entry("1.1"), over=4)
    kept.pass_(10 * KEPT)
    kept.due()
    assert kept.count("studies") == 1


def test_many_studies_are_forgotten_some_at_a_time(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "AT_ONCE", 2)
    kept.came(*(entry(f"1.{number}", study=f"1.9.{number}") for number in range(5)))
    kept.pass_(QUIET)
    for _ in range(3):
        assert kept.tracker.is_due(kept.clock)
        kept.due()
    assert not kept.tracker.is_due(kept.clock)
    kept.pass_(KEPT + 1)
    for left in (3, 1, 0):
        kept.due()
        assert kept.count("studies") == left


# --- a crash, and another run --------------------------------------------------------------------


def test_what_was_not_committed_is_told_again(kept: Kept) -> None:
    with kept.killed() as connection:
        kept.tracker.entered(connection, [Arrival(entry("1.1"), kept.clock)])
    kept.restart()
    assert kept.came(entry("1.1", is_new=False)) == ["stored 1.1"]


def test_completion_that_was_not_committed_is_told_again(kept: Kept) -> None:
    kept.came(entry("1.1"))
    kept.pass_(QUIET)
    with kept.killed() as connection:
        assert kept.tracker.due(connection, kept.clock)
    kept.restart(off=QUIET)
    kept.pass_(QUIET)
    assert kept.due() == COMPLETE


def test_a_failed_transaction_is_tried_again_in_the_same_run(kept: Kept) -> None:
    kept.associations.began(4)
    kept.came(entry("1.1"), over=4)
    kept.pass_(QUIET)
    kept.associations.ended(4)
    kept.pass_(1)
    with kept.killed() as connection:
        assert kept.tracker.due(connection, kept.clock)
    kept.pass_(tracker.LOOK)
    assert kept.tracker.is_due(kept.clock)
    assert kept.due() == COMPLETE


def test_what_was_committed_is_not_told_again(kept: Kept) -> None:
    kept.came(entry("1.1"))
    assert kept.came(entry("1.1")) == []  # the index could not be written, so it is entered again
    kept.restart()
    assert kept.came(entry("1.1", is_new=False)) == []  # a walk finds it


def test_after_a_restart_no_association_is_open(kept: Kept) -> None:
    kept.associations.began(4)
    kept.came(entry("1.1"), over=4)
    kept.restart()
    kept.associations.began(4)  # another one, which has the same number
    kept.pass_(QUIET)
    assert kept.due() == COMPLETE


@pytest.mark.parametrize("off", [-7200.0, 0.0, 20.0, 7200.0])
def test_a_restart_neither_completes_at_once_nor_blocks(kept: Kept, off: float) -> None:
    kept.came(entry("1.1"))
    kept.restart(off=off)
    kept.pass_(29)
    assert kept.due() == []
    kept.pass_(QUIET - 29)
    assert kept.due() == COMPLETE


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_is_set_changes_nothing_in_a_run(kept: Kept, jump: float) -> None:
    kept.came(entry("1.1"))
    kept.wall += jump
    kept.pass_(QUIET - 1)
    assert kept.due() == []
    kept.pass_(1)
    assert kept.due() == COMPLETE


def test_a_file_that_is_opened_again_in_one_run_keeps_its_associations(kept: Kept) -> None:
    kept.associations.began(4)
    kept.came(entry("1.1"), over=4)
    with kept.file.transaction() as connection:
        kept.tracker.resume(connection)
    kept.pass_(QUIET)
    assert kept.due() == []


def test_what_a_walk_finds_that_came_before_anybody_asked_is_no_news(kept: Kept) -> None:
    assert kept.came(entry("1.1", is_new=False, stored=NOON - 1)) == []
    assert kept.count("studies") == 0
    assert kept.came(entry("1.2", is_new=True, stored=NOON - 1)) == ["stored 1.2"]


def test_what_came_since_a_damaged_queue_was_written_last_is_news(kept: Kept) -> None:
    with kept.file.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO state VALUES ('lacks', ?)", (repr(NOON - 100),))
    assert kept.came(entry("1.1", is_new=False, stored=NOON - 101)) == []
    assert kept.came(entry("1.2", is_new=False, stored=NOON - 99)) == ["stored 1.2"]


def test_old_files_found_beside_a_new_instance_are_no_news(kept: Kept) -> None:
    found = entry("1.1", is_new=False, stored=NOON - 9), entry("1.2", stored=NOON - 9)
    assert kept.came(*found) == ["stored 1.2"]


def test_a_clock_that_was_set_back_makes_nothing_old(kept: Kept) -> None:
    kept.due()
    kept.wall -= 7200
    kept.due()
    stored = kept.wall
    kept.restart(off=7200)
    assert kept.came(entry("1.1", is_new=False, stored=stored)) == ["stored 1.1"]


def test_an_index_that_was_deleted_does_not_tell_old_studies_again(kept: Kept) -> None:
    completed(kept)
    kept.pass_(2 * KEPT)
    kept.due()
    kept.restart()
    assert kept.came(entry("1.1", is_new=False)) == []


def test_what_came_before_a_crash_is_news_after_any_time(kept: Kept) -> None:
    kept.due()
    crash = kept.wall + 60
    kept.restart(off=3 * KEPT)
    assert kept.came(entry("1.1", is_new=False, stored=crash)) == ["stored 1.1"]


# --- facts ---------------------------------------------------------------------------------------


def test_the_event_has_the_facts_of_the_study(kept: Kept) -> None:
    kept.came(entry("1.1", name="", path="PAT1/7/3/x.dcm", calling="CT2"))
    kept.came(entry("1.2", path="PAT1/7/4/y.dcm", calling="WS1", stored=NOON + 5, modality="PR"))
    kept.pass_(QUIET)
    found = facts(kept.events())
    assert found == {
        "event": "study-complete",
        "root": "/data/images",
        "root_key": "images",
        "folder": found["folder"],
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "study_instance_uid": "1.9",
        "patient_id": "PAT1",
        "patient_name": "Doe^Jane",
        "birth_date": "",
        "study_id": "7",
        "study_date": "20261126",
        "accession_number": "",
        "study_description": "",
        "modality": "CT\\PR",
        "calling_ae_title": "CT2\\WS1",
        "host": "192.0.2.7",
        "stored_at": "2027-01-15T08:00:05.000Z",
        "event_at": "2027-01-15T08:01:00.000Z",
        "first_stored_at": "2027-01-15T08:00:00.000Z",
        "instances": 2,
        "reason": "quiet",
    }
    assert found["folder"].replace("\\", "/") == "/data/images/PAT1/7"


def test_the_folder_of_a_study_with_a_dose_report_is_that_of_its_images(kept: Kept) -> None:
    kept.came(entry("1.1"), entry("1.2", root="/data/rdsr", path="PAT1/r.dcm", modality="SR"))
    kept.pass_(QUIET)
    found = facts(kept.events())
    assert (found["root"], found["root_key"]) == ("/data/images", "images\\rdsr")
    assert found["folder"].replace("\\", "/") == "/data/images/PAT1/7/3"


@pytest.mark.parametrize(("paths", "folder"), [(["a.dcm"], ""), (["a/b/1", "a/bc/1"], "/a"), (["a/1", "b/1"], "")])
def test_a_folder_is_shared_by_whole_names(kept: Kept, paths: list[str], folder: str) -> None:
    kept.came(*(entry(f"1.{number}", path=path) for number, path in enumerate(paths)))
    kept.pass_(QUIET)
    assert facts(kept.events())["folder"].replace("\\", "/") == "/data/images" + folder


def test_a_study_of_very_many_senders_keeps_some_of_them(kept: Kept) -> None:
    kept.came(*(entry(f"1.{number}", calling=f"AE{number}") for number in range(300)))
    kept.pass_(QUIET)
    assert facts(kept.events())["calling_ae_title"].count("\\") == 99


# --- is it complete? -----------------------------------------------------------------------------


def test_the_state_of_a_study_has_its_reason(kept: Kept) -> None:
    key = ("1.9", "PAT1")
    assert kept.states(key) == [None]
    kept.associations.began(4)
    kept.came(entry("1.1"), over=4)
    assert kept.states(key) == ["coming"]
    kept.associations.ended(4)
    kept.pass_(20)
    kept.due()
    assert kept.states(key) == ["quiet in 40 s"]
    kept.pass_(40)
    kept.due()
    assert kept.states(key) == ["complete: quiet"]
    kept.came(entry("1.2", announced=2))
    assert kept.states(key) == ["reopened, counted in 5 s"]
    kept.associations.began(5)
    kept.came(entry("1.3"), over=5)
    assert kept.states(key) == ["reopened"]


def test_states_of_many_studies_are_those_asked_for(kept: Kept) -> None:
    kept.came(*(entry(f"1.{number}", study=f"1.9.{number}") for number in range(600)))
    keys = [(f"1.9.{number}", "PAT1") for number in range(600)]
    assert kept.states(*keys, ("1.9.1", "PAT2")) == ["quiet in 60 s"] * 600 + [None]


def test_the_state_of_one_patient_is_not_that_of_another(kept: Kept) -> None:
    kept.came(entry("1.1", patient="A"), entry("1.2", patient="B"))
    with kept.file.transaction() as connection:
        assert list(states(connection, [("1.9", "B")], kept.wall, QUIET)) == [("1.9", "B")]


def test_a_clock_that_was_set_back_states_no_longer_wait_than_quiet(kept: Kept) -> None:
    kept.came(entry("1.1"))
    kept.wall -= 7200
    assert kept.states(("1.9", "PAT1")) == ["quiet in 60 s"]
