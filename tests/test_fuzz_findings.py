"""What fuzzing has found stays mended, and every input that is kept holds its invariants, without atheris.

And the campaign itself: what it must count as a finding, with a fuzzer that only pretends to run.
"""

import subprocess
import zlib
from pathlib import Path

import pytest

from dcmstore import uids
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import header
from dcmstore.storage.header import HeaderReader
from fuzz import campaign, corpus, flaws
from fuzz.campaign import Plan, Result
from fuzz.flaws import FLAWS
from fuzz.targets import TARGETS
from tests.support import data_set, element


@pytest.mark.parametrize("name", TARGETS)
def test_no_kept_input_breaks_an_invariant(name: str) -> None:
    inputs = corpus.load(name)
    assert inputs, "the corpus of a target is never empty"
    for data in inputs:
        TARGETS[name].check(data)


def deflated_with_a_fault_behind_its_header() -> bytes:
    squeezed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = squeezed.compress(data_set() + element(0x7FE1, 0x0010, "OB", bytes(100))) + squeezed.flush(zlib.Z_FULL_FLUSH)
    return head + b"\x07" * 20  # 07H begins a block of the type that RFC 1951 reserves


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_fault_behind_the_header_of_a_deflated_data_set_says_nothing_of_the_header(step: int) -> None:
    encoded = deflated_with_a_fault_behind_its_header()
    reader = HeaderReader(uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    for start in range(0, len(encoded), step):
        reader.receive(memoryview(encoded[start : start + step]))
    assert reader.is_complete
    assert reader.text_of(header.PATIENT_ID) == "PAT1"


@pytest.mark.parametrize("step", [1, 10_000])
def test_a_fault_inside_the_header_of_a_deflated_data_set_is_told(step: int) -> None:
    reader = HeaderReader(uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(CannotUnderstand, match="can't be unpacked"):
        for byte in (b"\x07" * 20)[::step]:
            reader.receive(memoryview(bytes([byte])))


def test_a_title_without_a_code_and_with_a_sequence_in_it_is_no_rubbish() -> None:
    title = element(0x0040, 0xA043, "SQ", b"")[:-4] + b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    inner = element(0x0040, 0xA168, "SQ", b"")[:-4] + b"\xff\xff\xff\xff"
    encoded = element(0x0008, 0x0001, "UL", bytes(4)) + title + inner
    reader = HeaderReader(uids.EXPLICIT_VR_LITTLE_ENDIAN, with_title=True)
    reader.receive(memoryview(encoded))
    reader.end()
    reader.check_size(len(encoded))
    assert reader.values == {}


def test_an_element_beside_items_is_passed_over_by_its_long_length_every_time() -> None:
    """Group FFFE has no VR, so what is remembered of elements with a short length may not be said of it."""
    odd = b"\xfe\xff\x01\x00\x04\x00\x00\x00" + bytes(4)  # (FFFE,0001), four bytes
    item, ends = b"\xfe\xff\x00\xe0" + b"\xff" * 4, b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
    sequence = element(0x0008, 0x1111, "SQ", b"")[:-4] + b"\xff" * 4 + item + odd * 2 + ends
    for _ in range(2):
        reader = HeaderReader(uids.EXPLICIT_VR_LITTLE_ENDIAN)
        reader.receive(memoryview(sequence + element(0x0010, 0x0020, "LO", b"PAT1")))
        reader.end()
        assert reader.text_of(header.PATIENT_ID) == "PAT1"


# Campaigns ---------------------------------------------------------------------------------------------------------


class Fuzzer:
    """Ends with an exit code, and leaves an input of this name if there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, exit_code: int, leaves: str = "") -> None:
        self.exit_code = exit_code
        self.leaves = leaves
        monkeypatch.setattr(subprocess, "run", self._run)

    def _run(self, command: list[object], **_: object) -> subprocess.CompletedProcess[str]:
        (prefix,) = (str(word).partition("=")[2] for word in command if str(word).startswith("-artifact_prefix="))
        if self.leaves:
            Path(prefix + self.leaves).touch()
        said = "Violation: of an invariant" if self.leaves else ""
        return subprocess.CompletedProcess(command, self.exit_code, f"{said}\nnumber_of_executed_units: 3\n", "")


def run_a_campaign(monkeypatch: pytest.MonkeyPatch, findings: Path) -> Result:
    monkeypatch.setattr(campaign, "FINDINGS", findings)
    (result,) = campaign.run([TARGETS["log"]], Plan(seconds=1, seed=1))
    return result


def test_a_fuzzer_that_finds_nothing_gives_no_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Fuzzer(monkeypatch, exit_code=0)
    result = run_a_campaign(monkeypatch, tmp_path)
    assert (result.inputs, result.findings) == (3, ())


def test_what_a_campaign_before_has_found_is_a_finding_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Fuzzer(monkeypatch, exit_code=77, leaves="crash-0815")
    for _ in range(2):
        assert run_a_campaign(monkeypatch, tmp_path).findings == ("log-crash-0815",)
    assert [path.name for path in tmp_path.iterdir()] == ["log-crash-0815"]


def test_a_fuzzer_that_fails_without_leaving_an_input_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Fuzzer(monkeypatch, exit_code=1)
    assert run_a_campaign(monkeypatch, tmp_path).findings == ("exit code 1",)


def broken_copy(folder: Path) -> Path:
    module = folder / "src/dcmstore" / FLAWS[0].module
    module.parent.mkdir(parents=True)
    module.write_text(FLAWS[0].line)
    return folder


def test_a_flaw_is_found_when_the_fuzzer_leaves_an_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Fuzzer(monkeypatch, exit_code=77, leaves="crash-0815")
    assert flaws.find(FLAWS[0], broken_copy(tmp_path)).endswith("Violation: of an invariant")


def test_a_broken_copy_that_does_not_start_shows_no_flaw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Fuzzer(monkeypatch, exit_code=1)
    assert flaws.find(FLAWS[0], broken_copy(tmp_path)) == "NOT FOUND, exit code 1"


def test_a_target_that_fails_on_the_unbroken_copy_is_unfit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Fuzzer(monkeypatch, exit_code=1)
    assert flaws.unfit(["log"], tmp_path) == ["log"]
