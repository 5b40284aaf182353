"""Lines of the ini, and what they mean."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dcmstore.hooks import COMMAND, COPY, STORED, STUDY_COMPLETE, WEBHOOK, checking, lines, planning
from dcmstore.hooks.lines import Action
from dcmstore.values import NotAllowed
from tests.hooks.support import FACTS, STUDY

FOLDER = "C:\\copies" if os.name == "nt" else "/copies"


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("dcm2niix -o /out {folder}", Action(COMMAND, "dcm2niix -o /out {folder}")),
        ("https://host.example/x?y=1", Action(WEBHOOK, "https://host.example/x?y=1")),
        ("HTTP://[::1]:8080", Action(WEBHOOK, "HTTP://[::1]:8080")),
        (f"copy to {FOLDER}", Action(COPY, f"copy to {FOLDER}")),
        (f'Copy  to "{FOLDER} 2"', Action(COPY, f'Copy  to "{FOLDER} 2"')),
        ("copytool {path}", Action(COMMAND, "copytool {path}")),
    ],
)
def test_the_kind_of_a_hook_shows_in_its_words(line: str, action: Action) -> None:
    assert lines.parse(line).action == action


def test_a_rule_stands_in_front_and_is_not_part_of_the_target() -> None:
    hook = lines.parse("[modality=MR] tool {path}")
    assert hook.action.target == "tool {path}"
    assert hook.rule.matches(FACTS)
    assert not hook.rule.matches({**FACTS, "modality": "CT"})
    assert str(hook) == "[modality=MR] tool {path}"


@pytest.mark.parametrize(
    "line",
    [
        "", '""', '"tool', "{path} x", "[modality=] x", "[modality=CT]",
        "http://", "https://user:secret@host/", "https://host:0/", "https://host:x/", "https://host/{patient_id}",
        "https://host/a b", "https://a..b/", "https://host/#x", "copy to relative", "copy to {folder}",
    ],
)  # fmt: skip
def test_what_is_no_hook_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        lines.parse(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ftp://host/x", "nothing can be called by ftp://; allowed is http:// or https://"),
        ("file:///srv/x", "nothing can be called by file://; allowed is http:// or https://"),
        ("https://user:secret@host/", "allowed is one without: use webhook-secret"),
        ("https://host/{path", "allowed is a URL without `#` and braces"),
        ("copy to relative", "'relative' is no whole path; allowed is one such as"),
        ('"tool', "a double quote is not closed; allowed are pairs of them"),
        ("{path} x", "the program is a placeholder, so a sender would choose it; allowed is a program's name"),
    ],
)
def test_a_refusal_says_which_part_is_wrong_and_what_is_allowed(line: str, words: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        lines.parse(line)
    assert words in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_the_folder_of_a_copy_may_stand_in_quotes() -> None:
    assert lines.folder_of(f'copy to "{FOLDER} 2"') == f"{FOLDER} 2"


@pytest.mark.parametrize(
    ("event", "line", "problem"),
    [
        (STORED, "x {patient_ID}", "{patient_ID} is no placeholder; the nearest known one is {patient_id}; allowed "),
        (STORED, "x {qqqq}", "{qqqq} is no placeholder; allowed are event, path"),
        (STORED, "x {instances}", "{instances} is not known of a single object; use it with on-study-complete"),
        (STUDY_COMPLETE, "x {path}", "{path} is not known of a study; use {folder} for its files, or on-stored"),
        (STORED, "x {path", "{path has no closing brace; allowed is {path}"),
        (STORED, "x {folder/{patient_id}", "{folder has no closing brace; allowed is {folder}"),
        (STORED, "x {pathh y", "{pathh has no closing brace; allowed is {pathh}"),
        (STORED, "x root_key}/y", "root_key} has no opening brace; allowed is {root_key}"),
    ],
)
def test_a_placeholder_that_means_nothing_is_a_mistake(event: str, line: str, problem: str) -> None:
    (found,) = checking.mistakes(lines.parse(line), event, [])
    assert found.startswith(problem)


def test_the_placeholders_that_are_offered_are_those_of_the_event() -> None:
    (found,) = checking.mistakes(lines.parse("x {qqqq}"), STUDY_COMPLETE, [])
    offered = found.partition("allowed are ")[2].split(", ")
    assert "instances" in offered and "path" not in offered


def test_every_fact_is_a_placeholder() -> None:
    for facts, event in ((FACTS, STORED), (STUDY, STUDY_COMPLETE)):
        line = "tool " + " ".join(f"{{{name}}}" for name, value in facts.items() if value != "")
        assert list(checking.mistakes(lines.parse(line), event, [])) == []


def test_other_braces_are_text() -> None:
    for line in ("awk { print } {} { path }", 'awk "{print $1}"', 'x {"path": 1}', 'awk "{print path}" {path}'):
        assert list(checking.mistakes(lines.parse(line), STORED, [])) == []


def test_a_copy_into_a_root_folder_is_a_mistake(tmp_path: Path) -> None:
    root = tmp_path / "images"
    inside, beside = (lines.parse(f"copy to {tmp_path / name}") for name in ("images/copy", "images-copy"))
    (found,) = checking.mistakes(inside, STORED, [root])
    assert found.endswith(f"lies in {root}, where objects are filed; allowed is a folder outside of it")
    assert list(checking.mistakes(beside, STORED, [root])) == []


def lacks(line: str, unwritable: Callable[[Path], str] = lambda _: "") -> list[str]:
    return list(checking.lacks(lines.parse(line), unwritable))


def test_a_missing_program_and_a_missing_folder_are_told(tmp_path: Path) -> None:
    (program,) = lacks("no-such-program {path}")
    assert "no-such-program: there is no such program; install it, or give its whole path" in program
    (folder,) = lacks(f"copy to {tmp_path / 'away'}")
    assert folder.endswith("there is no such folder; make it, or see to its disk or share")
    assert lacks(f"copy to {tmp_path}") == []
    assert lacks(f'"{sys.executable}" x') == []


def test_a_folder_of_a_copy_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    assert lacks(f"copy to {tmp_path}", lambda folder: f"no: {folder.name}") == [f"{tmp_path} no: {tmp_path.name}"]


def test_a_webhook_without_key_or_tls_is_noted(tmp_path: Path) -> None:
    open_one, local = lines.parse("http://host.example/"), lines.parse("http://127.0.0.1:8080/")
    assert len(list(checking.notes(open_one, None))) == 2
    assert list(checking.notes(local, tmp_path / "key")) == []


# --- planning ------------------------------------------------------------------------------------


def _keys(facts: Mapping[str, str | int]) -> list[str]:
    return [job.key for job in planning.jobs_for([lines.parse("tool")], facts)]


def test_each_hook_whose_rule_lets_it_pass_gets_a_job() -> None:
    hooks = [lines.parse(line) for line in ("[modality=CT] ct-tool", "[modality=MR] mr-tool", "https://host.example/")]
    jobs = planning.jobs_for(hooks, FACTS)
    assert [(job.kind, job.target, job.order) for job in jobs] == [
        (COMMAND, "mr-tool", "1.9.1"),
        (WEBHOOK, "https://host.example/", "1.9.1"),
    ]
    assert all(job.facts == FACTS for job in jobs)


def test_the_same_object_gives_the_same_job_and_a_changed_one_another() -> None:
    assert _keys(FACTS) == _keys(dict(FACTS))
    assert _keys(FACTS) != _keys({**FACTS, "sha256": "cd" * 32})
    assert _keys(FACTS) != _keys({**FACTS, "sop_instance_uid": "1.2.3.5"})


def test_a_study_that_was_reopened_gives_another_job() -> None:
    assert _keys(STUDY) == _keys(dict(STUDY))
    assert _keys(STUDY) != _keys({**STUDY, "instances": 3})
    assert _keys(STUDY) != _keys({**STUDY, "stored_at": "2026-11-25T21:00:00.000Z"})
    assert _keys(STUDY) != _keys({**STUDY, "patient_id": "4712"})


def test_objects_without_a_study_do_not_wait_for_each_other() -> None:
    (job,) = planning.jobs_for([lines.parse("tool")], {**FACTS, "study_instance_uid": ""})
    assert job.order == "1.2.3.4"
