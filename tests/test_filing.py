"""From header values to a path: hostile names, placeholders, the folder switches, and where dose reports go."""

import itertools
import ntpath
import os
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore import uids
from dcmstore.storage import filing, header, names, text
from dcmstore.storage.filing import Destination, FilingPolicy, Root
from tests.support import CT, ENHANCED_SR, XRAY_DOSE_SR
from tests.wire import NO_UIDS, UIDS

UTF_8 = b"ISO_IR 192"
PLACEHOLDER = names.NO_STUDY_ID

VALUES = {
    header.PATIENT_ID: b"PAT1",
    header.PATIENT_NAME: b"Doe^Jane",
    header.STUDY_ID: b"7",
    header.SERIES_NUMBER: b"3 ",
}


def name(value: str | bytes, character_set: bytes = UTF_8) -> str:
    """The folder's name for a value, text in UTF-8."""
    raw = value if isinstance(value, bytes) else value.encode()
    return names.folder_name(raw, character_set, PLACEHOLDER)


def folded(name: str) -> str:
    """What NTFS compares: each letter's capital, where that is one letter."""
    return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in name)


WINDOWS_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(COM|LPT)[0-9¹²³]) *(\..*)?", re.I | re.S)


def why_not_a_name(name: str) -> str:
    """Why Windows or Linux would not take this as the name of one new folder; empty when both do."""
    reasons = {
        "empty": not name,
        "a character that Windows does not take": re.search(r'[<>:"/\\|?*\x00-\x1f]', name),
        "a dot or a space at the end": name.endswith((".", " ")),
        "hidden, or the parent": name.startswith("."),
        "a device": WINDOWS_DEVICE.fullmatch(name),
        "a short name of another folder": re.fullmatch(r"[^.]{1,6}~[0-9]{1,6}(\.[^.]{0,3})?", name),
        "longer than 64 UTF-16 units": len(name.encode("utf-16-le")) > 128,
        "longer than 200 bytes": len(name.encode("utf-8")) > 200,
        "a drive or several names": ntpath.splitdrive(name)[0] or ntpath.basename(name) != name,
        "an invisible or turning character": any(
            unicodedata.bidirectional(letter) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI", "BN")
            or letter in "\u061c\u200e\u200f\u2028\u2029"
            for letter in name
        ),
    }
    return ", ".join(reason for reason, found in reasons.items() if found)


HOSTILE = {
    "the parent": "..",
    "the folder itself": ".",
    "three dots": "...",
    "a way out": "../../x",
    "a way out on Windows": r"..\..\x",
    "an absolute path": "/etc/passwd",
    "a drive": "C:",
    "a drive with a path": r"C:\Windows",
    "a share": r"\\server\share",
    "another stream": "name:stream:$DATA",
    "a device": "CON",
    "a device in small letters": "nul",
    "a device with an extension": "con.txt",
    "a device with a space": "CON .txt",
    "a device and a dot": "AUX.",
    "a port": "COM1",
    "a port with a raised digit": "COM¹",
    "a printer": "lpt9.x.y",
    "the console": "CONIN$",
    "a long device": "CON." + "x" * 100,
    "a long device with unsafe letters": "LPT1.:" + "é" * 100,
    "NUL inside": "a\0b",
    "a dot at the end": "name.",
    "many dots and spaces at the end": "name. . .",
    "a dot at the beginning": ".hidden",
    "a short name": "LONGNA~1",
    "a short name with an extension": "LONGNA~1.TXT",
    "a slash": "a/b",
    "a backslash": r"a\b",
    "wildcards": "a*?b",
    "quotation marks": 'a"b',
    "a redirection": "a<b>c|d",
    "a line feed": "a\nb",
    "an escape sequence for the terminal": "\x1b[31mred",
    "a control character of Latin-1": "a\x85b",
    "text that turns": "photo\u202egpj.exe",
    "an Arabic letter mark": "a\u061cb",
    "a soft hyphen": "a\u00adb",
    "a zero width space": "a\u200bb",
    "an isolate": "a\u2066b\u2069",
    "a byte order mark": "\ufeffname",
    "no character at all": "a\uffffb",
    "10,000 letters": "x" * 10_000,
    "10,000 letters of four bytes": "😀" * 2_500,
    "65 letters": "x" * 65,
    "bytes that are a lone surrogate": b"a\xed\xa0\x80b",
    "our suffix": "name~0123abcd",
    "our suffix in capitals": "name~0123ABCD",
    "a placeholder": "ID_Unknown",
    "a placeholder in small letters": "NR",
    "the folder of temporary files": ".incoming",
    "the folder of the unreadable": "quarantine",
    "the directory file": "DICOMDIR",
    "one of our files": "1.2.3.dcm",
    "one of our files in capitals": "1.2.3.DCM",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_value_gives_a_name_that_every_platform_takes(what: str) -> None:
    assert why_not_a_name(name(HOSTILE[what])) == ""


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_value_gives_a_name_that_cannot_be_mistaken_for_another(what: str) -> None:
    assert re.search("~[0-9a-f]{8}$", name(HOSTILE[what]))


def test_hostile_values_have_names_that_all_differ() -> None:
    names = [folded(name(value)) for value in HOSTILE.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "value",
    [
        "PAT1",
        "a",
        "12-34",
        "Doe^Jane",
        "山田^太郎",
        "Jérôme (2)",
        "O'Neill, J",
        "x" * 64,
        "a~b",
        "CONSTANCE",
        "COM10",
        "~",
    ],
)
def test_a_harmless_value_is_the_name_itself(value: str) -> None:
    assert name(value) == value


def test_a_name_that_was_made_safe_remains_readable() -> None:
    assert re.fullmatch("a_b~[0-9a-f]{8}", name("a/b"))


def test_a_name_too_long_keeps_its_beginning() -> None:
    assert re.fullmatch("x{55}~[0-9a-f]{8}", name("x" * 10_000))


def test_bytes_that_lose_something_in_decoding_still_differ() -> None:
    japanese = rb"\ISO 2022 IR 87"
    first, second = b"\x1b(B\xff", b"\x1b(B\xfe"
    assert text.decode(first, japanese) == text.decode(second, japanese)
    assert name(first, japanese) != name(second, japanese)


@pytest.mark.parametrize("value", [b"", b"  ", b"\0", b" \0 "])
def test_an_empty_value_gives_the_placeholder(value: bytes) -> None:
    assert name(value) == PLACEHOLDER.name


def test_the_name_of_a_name_is_another() -> None:
    assert name(name("a/b")) != name("a/b")


NASTY = st.one_of(
    st.text(max_size=90),
    st.text(alphabet="aA.~ :_/\\\0\x1f\u202e\u061cé01\ufffd", max_size=90),
    st.sampled_from([value for value in HOSTILE.values() if isinstance(value, str)]),
    st.tuples(
        st.sampled_from(["CON", "com1", "LPT¹", "Study-undef", "name", "", "..", ".incoming"]),
        st.sampled_from(["", ".", " ", "~1", "~0123abcd", ".txt", ".dcm", "/", "\0", "x" * 64]),
        st.text(max_size=5),
    ).map("".join),
).map(lambda value: value.encode("utf-8", "replace").decode())


@given(NASTY)
def test_any_text_gives_a_name_that_every_platform_takes(value: str) -> None:
    assert why_not_a_name(name(value)) == ""


@given(st.binary(max_size=200), st.binary(max_size=30))
def test_any_bytes_in_any_set_give_a_name_that_every_platform_takes(value: bytes, character_set: bytes) -> None:
    assert why_not_a_name(name(value, character_set)) == ""


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """Two values, the second often made from the first: what it would be called, cut, with letters replaced."""
    first = draw(NASTY)
    second = draw(
        st.one_of(
            NASTY,
            st.sampled_from(
                [
                    name(first),
                    folded(name(first)),
                    first + ".",
                    first[:64],
                    first + "x",
                    first.replace(":", "/"),
                    re.sub(r"\W", "_", first),
                    "_" + first,
                ]
            ),
        )
    )
    return first, second


@given(pairs())
def test_two_values_have_two_names_unless_only_the_case_of_letters_differs(pair: tuple[str, str]) -> None:
    """The one exception: `abc` and `ABC` are two names on Linux and one folder on Windows, which does not tell them
    apart. A hospital does not tell two patients apart by that either, and the readable name is worth more."""
    first, second = (text.decode(value.encode(), UTF_8) for value in pair)
    if folded(first) != folded(second):
        assert folded(name(first)) != folded(name(second))


@given(pairs())
def test_two_values_have_two_names_where_case_counts(pair: tuple[str, str]) -> None:
    first, second = (text.decode(value.encode(), UTF_8) for value in pair)
    if first != second:
        assert name(first) != name(second)


POLICIES = [FilingPolicy(*switches) for switches in itertools.product((True, False), repeat=5)]


@given(
    patient_id=st.binary(max_size=80),
    study_id=st.binary(max_size=80),
    series_number=st.binary(max_size=80),
    policy=st.sampled_from(POLICIES),
)
def test_no_path_leaves_its_root(
    patient_id: bytes, study_id: bytes, series_number: bytes, policy: FilingPolicy
) -> None:
    values = {
        header.PATIENT_ID: patient_id,
        header.PATIENT_NAME: patient_id,
        header.STUDY_ID: study_id,
        header.SERIES_NUMBER: series_number,
    }
    found = filing.destination(CT, "1.2.3", values, policy)
    path = os.path.join("/root", *found.folders, found.file_name)
    assert os.path.normpath(path) == path
    assert path.count("/") == 2 + len(found.folders)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: "".join("01"[v] for v in _switches(policy)))
def test_the_folder_switches_decide_the_levels_of_images(policy: FilingPolicy) -> None:
    levels = ["PAT1" if policy.order_by_patient_id else "Doe^Jane"]
    levels += ["7"] * policy.order_by_study + ["3"] * policy.order_by_series
    expected = tuple(levels) if policy.folder_tree else ()
    assert filing.destination(CT, "1.2.3", VALUES, policy) == Destination(Root.IMAGES, expected, "1.2.3.dcm")


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: "".join("01"[v] for v in _switches(policy)))
def test_the_folder_switches_decide_the_levels_of_dose_reports(policy: FilingPolicy) -> None:
    levels = ["PAT1" if policy.order_by_patient_id else "Doe^Jane"]
    levels += ["7"] * policy.order_by_study + ["3"] * policy.order_by_series
    expected = tuple(levels) if policy.rdsr_tree else ()
    found = filing.destination(XRAY_DOSE_SR, "1.2.3", VALUES, policy)
    assert found == Destination(Root.DOSE_REPORTS, expected, "1.2.3.dcm")


def _switches(policy: FilingPolicy) -> tuple[bool, ...]:
    return (
        policy.folder_tree,
        policy.order_by_patient_id,
        policy.order_by_study,
        policy.order_by_series,
        policy.rdsr_tree,
    )


def test_absent_values_give_the_placeholders_of_their_levels() -> None:
    found = filing.destination(CT, "1.2.3", {}, FilingPolicy())
    assert found.folders == ("ID_Unknown", "Study-undef", "nr")


def test_an_absent_name_gives_its_placeholder() -> None:
    found = filing.destination(CT, "1.2.3", {}, FilingPolicy(order_by_patient_id=False))
    assert found.folders[0] == "PName_Unknown"


def test_a_patient_called_like_a_placeholder_does_not_share_its_folder() -> None:
    values = VALUES | {header.PATIENT_ID: b"ID_Unknown"}
    assert filing.destination(CT, "1.2.3", values, FilingPolicy()).folders[0] != "ID_Unknown"


def test_names_are_read_in_the_character_set_of_the_data_set() -> None:
    values = VALUES | {header.SPECIFIC_CHARACTER_SET: b"ISO_IR 144", header.PATIENT_ID: b"\xbb\xee\xda"}
    assert filing.destination(CT, "1.2.3", values, FilingPolicy()).folders[0] == "Люк"


@pytest.mark.parametrize("number", [67, 68, 73, 76])
def test_a_dose_report_is_known_by_its_class(number: int) -> None:
    assert filing.root_of(f"1.2.840.10008.5.1.4.1.1.88.{number}", {}, FilingPolicy()) is Root.DOSE_REPORTS


@pytest.mark.parametrize(
    "sop_class_uid", [ENHANCED_SR, "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.11"]
)
@pytest.mark.parametrize("code", [b"113701", b"113500", b"128401"])
def test_a_dose_report_in_another_class_is_known_by_its_title(sop_class_uid: str, code: bytes) -> None:
    title = {header.CODE_VALUE: code, header.CODING_SCHEME_DESIGNATOR: b"DCM "}
    assert filing.root_of(sop_class_uid, title, FilingPolicy()) is Root.DOSE_REPORTS


@pytest.mark.parametrize(
    "code, scheme", [(b"126000", b"DCM"), (b"113701", b"99LOCAL"), (b"113701", b""), (b"", b"DCM"), (b"", b"")]
)
def test_a_structured_report_with_another_title_goes_with_the_images(code: bytes, scheme: bytes) -> None:
    title = {header.CODE_VALUE: code, header.CODING_SCHEME_DESIGNATOR: scheme}
    assert filing.root_of(ENHANCED_SR, title, FilingPolicy()) is Root.IMAGES


def test_a_structured_report_without_a_title_goes_with_the_images() -> None:
    assert filing.root_of(ENHANCED_SR, {}, FilingPolicy()) is Root.IMAGES


def test_an_image_with_the_title_of_a_dose_report_goes_with_the_images() -> None:
    title = {header.CODE_VALUE: b"113701", header.CODING_SCHEME_DESIGNATOR: b"DCM"}
    assert filing.root_of(CT, title, FilingPolicy()) is Root.IMAGES


@pytest.mark.parametrize("sop_class_uid, needed", [(CT, False), (XRAY_DOSE_SR, False), (ENHANCED_SR, True)])
def test_only_a_structured_report_that_is_not_known_by_class_needs_its_title(sop_class_uid: str, needed: bool) -> None:
    assert filing.needs_title(sop_class_uid, FilingPolicy()) is needed


@pytest.mark.parametrize("uid", UIDS)
def test_a_uid_names_its_file(uid: str) -> None:
    assert names.file_name_of(uid) == uid + ".dcm"


@pytest.mark.parametrize("uid", NO_UIDS, ids=lambda uid: ascii(uid[:20]))
def test_what_is_no_uid_names_no_file(uid: str) -> None:
    assert not uids.is_uid(uid)
    with pytest.raises(ValueError, match="not a UID"):
        names.file_name_of(uid)


def test_another_instance_of_the_same_uid_is_numbered_in_front_of_the_extension() -> None:
    assert names.numbered("1.2.3.dcm", 2) == "1.2.3 (2).dcm"
