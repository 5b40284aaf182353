"""What fuzzing has found stays mended, and every input that is kept holds its invariants, without atheris."""

import zlib

import pytest

from dcmstore import uids
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import header
from dcmstore.storage.header import HeaderReader
from fuzz import corpus
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
