"""The page about hooks, held to the code."""

import os
import re
from pathlib import Path

import pytest

from dcmstore.afterwards import facts_of
from dcmstore.hooks import COPY, STORED, STUDY_COMPLETE, checking, lines, placeholders
from dcmstore.hooks.processes import MAX_OUTPUT
from dcmstore.hooks.signing import MAX_KEY, MIN_KEY
from dcmstore.hooks.webhook import TIMEOUT
from dcmstore.studies.gathered import Gathered
from tests.hooks.support import FACTS, STUDY
from tests.studies.support import entry

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text(encoding="utf-8")
_EVENTS = {"on-stored": STORED, "on-study-complete": STUDY_COMPLETE}


@pytest.mark.parametrize("key_and_line", re.findall(r"(?m)^(on-[a-z-]+)= (.+)$", PAGE))
def test_every_line_on_the_page_is_a_hook(key_and_line: tuple[str, str]) -> None:
    key, line = key_and_line
    if os.name == "nt" and "copy to /" in line:
        pytest.skip("a path of Linux")
    hook = lines.parse(line)
    assert list(checking.mistakes(hook, _EVENTS[key], [])) == []
    assert hook.action.kind != COPY or hook.rule.terms


def test_every_placeholder_is_on_the_page_with_its_event() -> None:
    rows = re.findall(r"(?m)^\| (`\{.+) \| (.+) \|$", PAGE)
    of_row = {re.sub("`", "", event): set(placeholders.names_in(names)) for names, event in rows}
    assert set().union(*of_row.values()) == set(placeholders.NAMES)
    for key, event in _EVENTS.items():
        for name in of_row[key] | of_row["both"]:
            assert list(placeholders.problems(f"{{{name}}}", event)) == []
        (other,) = set(_EVENTS) - {key}
        assert all(list(placeholders.problems(f"{{{name}}}", event)) for name in of_row[other])


def test_the_values_of_an_event_are_the_ones_on_the_page() -> None:
    stored = entry("1.1")
    of_study = Gathered.of(stored).facts(STUDY_COMPLETE, stored.stored_at, 1, "quiet", lambda _: "images")
    for facts in (facts_of(stored, lambda _: "images"), of_study):
        known = {name for name in placeholders.NAMES if not list(placeholders.problems(f"{{{name}}}", facts["event"]))}
        assert set(facts) == known
    assert (set(FACTS), set(STUDY)) == (set(facts_of(stored, lambda _: "images")), set(of_study))  # as tests have them


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"the last {MAX_OUTPUT:,} characters" in PAGE
    assert f"{MIN_KEY} to {MAX_KEY} bytes" in PAGE
    assert f"The server has {TIMEOUT:g} seconds" in PAGE
