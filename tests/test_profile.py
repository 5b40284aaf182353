"""PresContextCfg.ini: DCMTK's files and the original's, every error with its line, and the same answers as storescp."""

import contextlib
import ctypes
import ctypes.util
import errno
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import AE, build_context

from dcmstore import cli, config, dcmtk_names, profile, uid_names, uids
from dcmstore.errors import ConfigurationError
from dcmstore.profile import Profile
from tests.wire import UIDS
from tools.programs import find_program

ROOT = Path(__file__).parent.parent
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
JPEG_LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.91"

SMALL = r"""[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Images]
PresentationContext1 = VerificationSOPClass\Uncompressed
PresentationContext2 = CTImageStorage\Uncompressed
[[Profiles]]
[Hospital]
PresentationContexts = Images
"""

# The structure of release 1.4's own sample: lists that nothing uses, a UID among names, ragged blanks, CRLF
LIKE_THE_ORIGINAL = r"""#
#  Which classes we take, in our own words
# =====================================
[[TransferSyntaxes]]
# =====================================

[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = LittleEndianImplicit
TransferSyntax3 = BigEndianExplicit

[AnyTransferSyntax]
TransferSyntax1  = LittleEndianExplicit
TransferSyntax2  = LittleEndianImplicit
TransferSyntax3  = BigEndianExplicit
TransferSyntax4  = JPEGLossless:Non-hierarchical-1stOrderPrediction
TransferSyntax5  = JPEG2000
TransferSyntax6  = JPEG2000LosslessOnly


[Compressed]
TransferSyntax1  = JPEGLossless:Non-hierarchical-1stOrderPrediction
TransferSyntax2 =  JPEGLSLossless

# =====================================
[[PresentationContexts]]
# =====================================

[OurStorageSCP]
#
# echo
#
PresentationContext1   = VerificationSOPClass\Uncompressed
PresentationContext2   = CTImageStorage\Uncompressed
PresentationContext3   = NuclearMedicineImageStorage\AnyTransferSyntax
PresentationContext4  = 1.2.840.10008.5.1.4.1.1.7.4\AnyTransferSyntax
#PresentationContext5  = NotAnyMore\AnyTransferSyntax
#
# dose
#
PresentationContext5  = XRayRadiationDoseSRStorage\Uncompressed

# =====================================
[[Profiles]]
# =====================================

[OURPROFILE]
PresentationContexts = OurStorageSCP
""".replace("\n", "\r\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "PresContextCfg.ini"


def read(path: Path, text: str | bytes, name: str = "") -> Profile:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return profile.read(path, name)


def with_line(number: int, *lines: str) -> str:
    """SMALL with other lines, or none, in place of one."""
    text = SMALL.splitlines()
    text[number - 1 : number] = lines
    return "\n".join(text)


def shipped(name: str) -> Path:
    """A profile file of the DCMTK that is installed."""
    folders = [Path("/etc/dcmtk"), *(p for root in ("/usr", "/usr/local") for p in Path(root).glob("[es]*/dcmtk*"))]
    found = next((folder / name for folder in folders if (folder / name).exists()), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: {name} of DCMTK")
    return found


# --- what a file means -------------------------------------------------------------------------------


def test_a_profile_is_its_sop_classes_with_their_transfer_syntaxes_in_order(file: Path) -> None:
    taken = read(file, SMALL)
    assert (taken.path, taken.name, taken.line, taken.names) == (file, "Hospital", 10, ("Hospital",))
    assert taken.sop_classes == {uids.VERIFICATION: (EXPLICIT, IMPLICIT), CT: (EXPLICIT, IMPLICIT)}
    assert taken.warnings == ()


def test_a_file_like_the_originals_is_read(file: Path) -> None:
    taken = read(file, LIKE_THE_ORIGINAL)
    assert taken.warnings == ()
    uncompressed = (EXPLICIT, IMPLICIT, BIG_ENDIAN)
    any_syntax = (*uncompressed, JPEG_LOSSLESS, JPEG_2000, "1.2.840.10008.1.2.4.90")
    assert taken.sop_classes == {
        uids.VERIFICATION: uncompressed,
        CT: uncompressed,
        "1.2.840.10008.5.1.4.1.1.20": any_syntax,
        "1.2.840.10008.5.1.4.1.1.7.4": any_syntax,
        "1.2.840.10008.5.1.4.1.1.88.67": uncompressed,
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("[[TransferSyntaxes]]", " [[ TRANSFERsyntaxes ]] "),
        ("[Uncompressed]", "[ un compressed ]"),
        ("TransferSyntax1 =", "  transfersyntax 1="),
        ("PresentationContext2 =", "PRESENTATIONCONTEXT2\t="),
        (r"CTImageStorage\Uncompressed", r"CTImageStorage \ unCompressed"),
        ("PresentationContexts = Images", "presentationcontexts =  IMAGES"),
        (r"CTImageStorage\Uncompressed", CT + r"\Uncompressed"),
        (r"CTImageStorage\Uncompressed", r"CTImageStorage\Uncompressed\SCU"),
        (r"CTImageStorage\Uncompressed", r"CTImageStorage\Uncompressed \ both"),
        ("LittleEndianExplicit", "LocalEndianExplicit"),
        ("LittleEndianExplicit", "ExplicitVRLittleEndian"),
        ("LittleEndianExplicit", EXPLICIT),
        ("\n", "\r"),
        ("\n", "\n\n# remark\n   # another\n; one more\n"),
        ("[Hospital]\n", "[Hospital]\nSCPSCURoleSelection = Roles\nExtendedNegotiation = Extended\n")
    ],
)  # fmt: skip
def test_case_blanks_comments_and_roles_change_nothing(file: Path, written: str, meant: str) -> None:
    ignored = "[[SCPSCURoleSelection]]\n[Roles]\nRole1 = Anything\\SCP\n[[ExtendedNegotiation]]\n[Extended]\nwhatever\n"
    assert written in SMALL
    taken = read(file, SMALL.replace(written, meant) + ignored)
    assert taken.sop_classes == read(file, SMALL).sop_classes
    assert taken.warnings == ()


@pytest.mark.skipif(sys.byteorder != "little", reason="the names follow the byte order of the machine")
def test_the_byte_order_of_this_machine_has_names(file: Path) -> None:
    taken = read(file, with_line(4, "TransferSyntax2 = OppositeEndianExplicit"))
    assert taken.sop_classes[CT] == (EXPLICIT, BIG_ENDIAN)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_a_file_is_read_in_every_encoding_that_the_ini_may_have(file: Path, encoding: str) -> None:
    assert read(file, SMALL.replace("Hospital", "Müller").encode(encoding)).name == "Müller"


def test_transfer_syntaxes_count_in_the_order_of_their_numbers(file: Path) -> None:
    text = SMALL.replace("TransferSyntax1", "TransferSyntax3") + "\n"
    text = text.replace("[[Pres", "TransferSyntax1 = JPEG2000\n[[Pres")
    assert read(file, text).sop_classes[CT] == (JPEG_2000, IMPLICIT, EXPLICIT)


@pytest.mark.parametrize("uid", UIDS)
def test_what_may_be_negotiated_as_a_uid_may_stand_in_a_profile(file: Path, uid: str) -> None:
    taken = read(file, with_line(4, f"TransferSyntax2 = {uid}"))
    assert taken.sop_classes[CT] == (EXPLICIT, uid)


def test_a_tenth_entry_comes_after_the_second(file: Path) -> None:
    names = ["MRImageStorage", *(f"1.2.3.{number}" for number in range(3, 11))]
    lines = [rf"PresentationContext{number} = {name}\Uncompressed" for number, name in enumerate(names, 2)]
    taken = read(file, with_line(8, *sorted(lines)))
    assert list(taken.sop_classes) == [uids.VERIFICATION, MR, *(f"1.2.3.{number}" for number in range(3, 11))]
    assert taken.warnings == ()


TWO = rf"""{SMALL}[Second]
PresentationContexts = Images2
[[PresentationContexts]]
[Images2]
PresentationContext1 = MRImageStorage\Uncompressed
"""


def test_of_several_profiles_the_first_is_taken(file: Path) -> None:
    taken = read(file, TWO)
    assert (taken.name, taken.names) == ("Hospital", ("Hospital", "Second"))


@pytest.mark.parametrize("name", ["Second", "SECOND", " sec ond "])
def test_a_profile_is_chosen_by_its_name_in_any_case(file: Path, name: str) -> None:
    taken = read(file, TWO, name)
    assert (taken.name, taken.line, list(taken.sop_classes)) == ("Second", 12, [MR])


# --- warnings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "expected", "accepted"),
    [
        (with_line(8, r"PresentationContext4 = CTImageStorage\Uncompressed"), 8,
         "'PresentationContext4' comes where PresentationContext2 is due in [Images]; every entry counts", [CT]),
        (with_line(8, r"PresentationContext1 = CTImageStorage\Uncompressed"), 8,
         "'PresentationContext1' comes where PresentationContext2 is due", [CT]),
        (with_line(8, r"PresentationContext02 = CTImageStorage\Uncompressed"), 8,
         "'PresentationContext02' comes where PresentationContext2 is due", [CT]),
        (with_line(8, r"PresentationContext = CTImageStorage\Uncompressed"), 8,
         "'PresentationContext' comes where PresentationContext1 is due", [CT]),
        (with_line(4, "TransferSyntax2 = 1.2.840.10008.1.2.1"), 4,
         "'TransferSyntax2' = '1.2.840.10008.1.2.1' is in line 3 too; that one counts", [CT]),
        (with_line(11, "PresentationContexts = Images", "PresentationContexts = Images"), 12,
         "PresentationContexts again in [Hospital]; the first one counts", [CT]),
        (with_line(11, "PresentationContexts = Images", "Colour = blue"), 12,
         "unknown key 'Colour' is ignored; known in a profile are PresentationContexts, ", [CT]),
        (TWO, 14, "[[PresentationContexts]] again; it goes on here, but DCMTK would read only line 5", [CT]),
        (SMALL + "[[General]]\n[Any]\nthing\n", 12, "[[General]] is passed over; known are ", [CT]),
        (with_line(8, r"PresentationContext2 = FINDStudyRootQueryRetrieveInformationModel\Uncompressed"), 8,
         "Study Root Query/Retrieve Information Model - FIND is not accepted all the same, for it stores nothing", []),
    ],
)  # fmt: skip
def test_what_is_odd_has_a_meaning_and_a_warning_with_its_line(
    file: Path, text: str, line: int, expected: str, accepted: list[str]
) -> None:
    taken = read(file, text)
    (warning,) = taken.warnings
    assert warning.startswith(f"{file}, line {line}: {expected}")
    assert sorted(taken.sop_classes) == sorted([uids.VERIFICATION, *accepted])


def test_a_sop_class_that_comes_again_adds_its_transfer_syntaxes(file: Path) -> None:
    text = with_line(
        2, "[Compressed]", "TransferSyntax1 = JPEG2000", "TransferSyntax2 = LittleEndianImplicit", "[Uncompressed]"
    )
    text += "\n[[SCPSCURoleSelection]]\n"
    text = text.replace("[[Profiles]]", "PresentationContext3 = CTImageStorage\\Compressed\n[[Profiles]]")
    taken = read(file, text)
    assert taken.sop_classes[CT] == (EXPLICIT, IMPLICIT, JPEG_2000)
    (warning,) = taken.warnings
    assert warning.startswith(
        f"{file}, line 12: CT Image Storage is in line 11 too: the transfer syntaxes of all its lines"
    )


# --- errors --------------------------------------------------------------------------------------------

WRONG = [
    (1, ["[TransferSyntaxes]"], 1, r"\[TransferSyntaxes\] stands in no supersection; allowed above it is \[\[Transfer"),
    (1, [], 1, r"\[Uncompressed\] stands in no supersection"),
    (1, ["TransferSyntax1 = JPEG2000", "[[TransferSyntaxes]]"], 1, r"stands in no section; allowed above it is a l"),
    (2, [], 2, r"'TransferSyntax1' = 'LittleEndianExplicit' stands in no section"),
    (2, ["[Uncompressed"], 2, r"'\[Uncompressed': allowed is \[\[supersection\]\] or \[section\], alone on its line"),
    (2, ["[]"], 2, r"'\[\]': allowed is"),
    (2, ["[[[Uncompressed]]]"], 2, r"allowed is \[\[supersection\]\] or"),
    (2, ["[Uncompressed] # remark"], 2, r"'\[Uncompressed\] # remark': allowed is"),
    (3, ["TransferSyntax1 LittleEndianExplicit"], 3, r"'TransferSyntax1 LittleEndianExplicit' has no '='; allowed is"),
    (3, ["TransferSyntax1 = LittleEndianExplicitt"], 3, r"is no transfer s.* nearest is LittleEndianExplicit$"),
    (3, ["TransferSyntax1 = littleendianexplicit"], 3, r"allowed is a UID, or a name .* in the same case"),
    (3, ["TransferSyntax1 = LittleEndianExplicit # remark"], 3, r"'LittleEndianExplicit # remark' is no tra"),
    (3, ["TransferSyntax1 = CTImageStorage"], 3, r"'CTImageStorage' is no transfer syntax; allowed is a UID"),
    (3, ["TransferSyntax1 = "], 3, r"'' is no transfer syntax"),
    (3, ["TransferSyntax1 = 1.2."], 3, r"'1\.2\.' is no transfer syntax"),
    (3, ["TransferSyntax1 = 1." + 63 * "2"], 3, r"is no transfer syntax"),
    (3, ["TransferSyntx1 = JPEG2000"], 3, r"'TransferSyntx1' = 'JPEG2000': the key is unknown; allowed in \["),
    (3, ["PresentationContext1 = JPEG2000"], 3, r"allowed in \[Uncompressed\] is TransferSyntax1, TransferSyntax2 and"),
    (3, ["TransferSyntax1 = JPEG2000", "[Uncompressed]"], 4, r"\[Uncompressed\] is in line 2 too; allowed is one of"),
    (5, ["[Empty]", "[[PresentationContexts]]", "[x]", r"PresentationContext1 = 1.2\Empty"], 5,
     r"\[Empty\] is empty, and line 8 uses it; allowed is one entry or more"),
    (6, ["[Other]"], 11, r"\[\[PresentationContexts\]\] has no section 'Images'; allowed is \[Other\]"),
    (6, ["[Images]", "[Other]"], 6, r"\[Images\] is empty, and line 12 uses it"),
    (8, ["PresentationContext2 = CTImageStorage"], 8, r"'CTImageStorage': allowed is 'SOP class\\list of transfer"),
    (8, [r"PresentationContext2 = CTImageStorage\Uncompressed\SCX"], 8, r"and \\SCU, \\SCP or \\BOTH after it"),
    (8, [r"PresentationContext2 = CTImageStorage\Uncompressed\SCU\SCP"], 8, r"allowed is 'SOP class"),
    (8, [r"PresentationContext2 = CTImageStorage\Compressed"], 8, r"no section 'Compressed'; allowed is \[Uncom"),
    (8, ["PresentationContext2 = CTImageStorage\\"], 8, r"has no section ''; allowed is \[Uncompressed\]"),
    (8, [r"PresentationContext2 = CTImagStorage\Uncompressed"], 8, r"is no SOP class; .* nearest is CTImageStorage$"),
    (8, [r"PresentationContext2 = \Uncompressed"], 8, r"'' is no SOP class; allowed is a UID, or a name"),
    (8, [r"PresentationContext2 = JPEG2000\Uncompressed"], 8, r"'JPEG2000' is no SOP class"),
    (10, [], 10, r"'PresentationContexts' = 'Images' stands in no section"),
    (11, [], 10, r"profile \[Hospital\] has no PresentationContexts; needed is one line 'PresentationContexts ="),
    (11, ["PresentationContexts = Imagse"], 11, r"has no section 'Imagse'; allowed is \[Images\]"),
    (11, ["PresentationContexts = Images", "SCPSCURoleSelection = Roles"], 12,
     r"\[\[SCPSCURoleSelection\]\] has no section 'Roles'; allowed is none, for there is no section"),
    (11, ["PresentationContexts = Images", "[hospital]"], 12, r"\[hospital\] is in line 10 too"),
    (11, ["PresentationContexts = Images", "[Unused]", "PresentationContexts = Nothing"], 13, "no section 'Nothing'"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "lines", "named", "expected"), WRONG)
def test_an_error_names_file_line_and_what_is_allowed(
    file: Path, number: int, lines: list[str], named: int, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(file, with_line(number, *lines))
    message = str(caught.value)
    assert message.startswith(f"{file}, line {named}: ")
    assert re.search(expected, message), message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("missing", profile.NEEDED)
def test_a_missing_supersection_is_named(file: Path, missing: str) -> None:
    start = SMALL.index(f"[[{missing}]]")
    end = SMALL.find("[[", start + 2)
    text = SMALL[:start] + (SMALL[end:] if end != -1 else "")
    with pytest.raises(ConfigurationError) as caught:
        read(file, text)
    assert f"line {len(text.splitlines())}: the file ends without [[{missing}]]; each of [[Tr" in str(caught.value)


def test_profiles_without_a_profile_are_an_error(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"line 9: \[\[Profiles\]\] has no section; allowed is one or more"):
        read(file, SMALL[: SMALL.index("[Hospital]")])


def test_an_unknown_profile_is_an_error_that_lists_them(file: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(file, TWO, "Third")
    assert str(caught.value) == f"profile= 'Third': allowed is Hospital, Second, as {file}, line 9 has them"


def test_an_unknown_profile_is_an_error_in_the_line_of_the_ini_that_asks_for_it(file: Path) -> None:
    file.write_text(TWO)
    ini = file.parent / "DcmStore.ini"
    ini.write_text("port= 0\nprofile= Third\n")
    with pytest.raises(ConfigurationError) as caught:
        profile.in_force(config.read(ini))
    expected = f"{ini}, line 2: profile= 'Third': allowed is Hospital, Second, as {file}, line 9 has them"
    assert str(caught.value) == expected


def test_a_file_that_can_not_be_looked_at_is_not_taken_for_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ini = file.parent / "DcmStore.ini"
    ini.write_text("")
    configuration = config.read(ini)

    def broken(path: Path, **_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", os.fspath(path))

    monkeypatch.setattr(profile.os, "stat", broken)
    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(ConfigurationError, match=r"PresContext\.ini: can't be read: Input/output error; see to "):
        profile.in_force(configuration)


def test_an_empty_file_is_an_error(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"line 1: the file ends without \[\[TransferSyntaxes\]\]"):
        read(file, "")


def test_a_file_that_cannot_be_read_is_an_error(file: Path) -> None:
    file.mkdir()
    with pytest.raises(
        ConfigurationError, match=r"PresContextCfg\.ini: can't be read: Is a directory; name the file in "
    ):
        profile.read(file)


# Lines of a right file, whole and broken, and anything else
_LINES = st.one_of(
    st.sampled_from([*SMALL.splitlines(), *LIKE_THE_ORIGINAL.splitlines(), "[Images]", "[[ExtendedNegotiation]]"]),
    st.builds(
        str.replace,
        st.sampled_from(SMALL.splitlines()),
        st.sampled_from(["1", "=", "[", "]", "\\", "Uncompressed"]),
        st.text(max_size=4),
    ),
    st.text(max_size=30),
)
_FILES = st.one_of(
    st.binary(max_size=300),
    st.lists(_LINES, max_size=30).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    st.tuples(st.integers(1, 11), st.lists(_LINES, max_size=2)).map(
        lambda drawn: with_line(drawn[0], *drawn[1]).encode("utf-8", "surrogatepass")
    ),
)


@given(raw=_FILES, name=st.one_of(st.just(""), st.just("Hospital"), st.text(max_size=10)))
def test_any_file_gives_a_profile_or_one_line(tmp_path_factory: pytest.TempPathFactory, raw: bytes, name: str) -> None:
    file = tmp_path_factory.mktemp("profile") / "PresContextCfg.ini"
    try:
        taken = read(file, raw, name)
    except ConfigurationError as error:
        assert len(str(error).splitlines()) == 1
        assert str(error).startswith((f"{file}, line ", f"profile= {name!r}: "))
        return
    assert taken.name in taken.names
    assert all(len(warning.splitlines()) == 1 for warning in taken.warnings)
    for sop_class, transfer_syntaxes in taken.sop_classes.items():
        assert transfer_syntaxes
        assert all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in (sop_class, *transfer_syntaxes))


# --- names -----------------------------------------------------------------------------------------------

NAMES = profile._sop_class_names() | profile._transfer_syntax_names()


def test_the_keywords_are_what_the_generator_makes() -> None:
    # in a process of its own, for pynetdicom adds to pydicom's dictionary
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['names_module'](), end='')"
    arguments = [sys.executable, "-c", code, str(ROOT / "tools" / "make_uids.py")]
    made = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert made == (ROOT / "src" / "dcmstore" / "uid_names.py").read_text(encoding="utf-8")


def test_the_table_kept_by_hand_has_only_what_the_generated_one_has_not() -> None:
    assert dcmtk_names.SOP_CLASSES.keys().isdisjoint(uid_names.SOP_CLASSES)
    assert dcmtk_names.TRANSFER_SYNTAXES.keys().isdisjoint(uid_names.TRANSFER_SYNTAXES)


def test_no_name_is_a_sop_class_and_a_transfer_syntax() -> None:
    assert profile._sop_class_names().keys().isdisjoint(profile._transfer_syntax_names())


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("BasicTextSR", "1.2.840.10008.5.1.4.1.1.88.11"),  # until 3.5.4
        ("XRayFluoroscopyImageStorage", "1.2.840.10008.5.1.4.1.1.12.2"),  # until 3.5.4
        ("RETIRED_VLMultiFrameImageStorage", "1.2.840.10008.5.1.4.1.1.77.2"),  # until 3.6.2
        ("OphthalmicPhotography3DCoordinatesImageStorage", "1.2.840.10008.5.1.4.1.1.77.1.5.6"),  # in 3.6.1
        ("LabelMapSegmentationStorage", "1.2.840.10008.5.1.4.1.1.66.7"),  # from 3.6.9
        ("PatientRadiationDoseSRStorage", "1.2.840.10008.5.1.4.1.1.88.73"),
        ("MultiFrameTrueColorSecondaryCaptureImageStorage", "1.2.840.10008.5.1.4.1.1.7.4"),  # as PS3.6 has it
        ("MultiframeTrueColorSecondaryCaptureImageStorage", "1.2.840.10008.5.1.4.1.1.7.4"),  # as DCMTK has it
    ],
)
def test_older_and_newer_names_are_known(name: str, uid: str) -> None:
    assert NAMES[name] == uid


@pytest.mark.interop("storescp")
def test_every_name_means_what_it_means_to_dcmtk() -> None:
    path = ctypes.util.find_library("dcmdata")
    if path is None:
        pytest.skip("not installed: a shared libdcmdata")
    library = ctypes.CDLL(path)
    uid_of, name_of = library._Z18dcmFindUIDFromNamePKc, library._Z16dcmFindNameOfUIDPKcS0_
    uid_of.restype = name_of.restype = ctypes.c_char_p
    uid_of.argtypes, name_of.argtypes = [ctypes.c_char_p], [ctypes.c_char_p, ctypes.c_char_p]
    theirs = {name: uid_of(name.encode()) for name in NAMES}
    known = {name: uid.decode() for name, uid in theirs.items() if uid is not None}
    assert len(known) > 300
    assert known == {name: NAMES[name] for name in known}
    every_uid = {*NAMES.values(), *uids.STORAGE_SOP_CLASSES, *uids.OTHER_SOP_CLASSES, *uids.TRANSFER_SYNTAXES}
    names = {uid: name_of(uid.encode(), None) for uid in every_uid}
    assert {name.decode(): uid for uid, name in names.items() if name is not None}.items() <= NAMES.items()


def test_a_receiver_without_a_profile_file_loads_no_names() -> None:
    code = "import sys, dcmstore.cli; print([name for name in sys.modules if name.endswith('_names')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- DCMTK's own files, and its storescp -------------------------------------------------------------------


@pytest.mark.interop("storescp")
@pytest.mark.parametrize("name", ["Default", "AllDICOM"])
def test_the_receivers_file_of_dcmtk_is_read_without_a_warning(name: str) -> None:
    taken = profile.read(shipped("storescp.cfg"), name)
    assert taken.names == ("Default", "AllDICOM")
    assert taken.warnings == ()
    assert len(taken.sop_classes) > 100


@pytest.mark.interop("storescp")
def test_the_senders_file_of_dcmtk_is_read_and_its_lines_for_one_class_are_joined() -> None:
    taken = profile.read(shipped("storescu.cfg"))
    assert taken.name == "Default"
    assert len(taken.sop_classes) > 50
    assert {JPEG_LOSSLESS, EXPLICIT, IMPLICIT} < set(taken.sop_classes[CT])
    (warning,) = taken.warnings
    assert " SOP classes: the transfer syntaxes of all its lines are accepted, in their order" in warning


@contextlib.contextmanager
def receiving(folder: Path, text: str, name: str) -> Iterator[int]:
    """`dcmstore run` with a profile; its port."""
    assert cli.main(["init", str(folder)]) == 0
    ini = folder / "DcmStore.ini"
    with ini.open("a") as out:
        out.write(f"port= 0\nbind= 127.0.0.1\nprofile= {name}\n")
    (folder / "PresContextCfg.ini").write_text(text)
    arguments = [sys.executable, "-m", "dcmstore", "run", "--config", str(ini)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            listening = (re.search(r"receiver\.listening .*port=(\d+) .*profile=", line) for line in process.stderr)
            yield next(int(match[1]) for match in listening if match)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)


@contextlib.contextmanager
def storescp(folder: Path, text: str, name: str) -> Iterator[int]:
    """DCMTK's receiver with a profile; its port."""
    file = folder / "storescp.cfg"
    file.write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = find_program("storescp")
    assert program is not None
    with subprocess.Popen([program, "--ignore", "-xf", str(file), name, str(port)]) as process:
        try:
            while True:
                assert process.poll() is None
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 10):
                    break
            yield port
        finally:
            process.terminate()


Proposal = tuple[str, tuple[str, ...]]


def answers(port: int, proposals: list[Proposal]) -> list[tuple[int, str]]:
    """Result and transfer syntax for each proposal; a context that is always accepted keeps pynetdicom on the line."""
    found = []
    for start in range(0, len(proposals), 127):
        part = [(uids.VERIFICATION, (EXPLICIT,)), *proposals[start : start + 127]]
        contexts = [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in part]
        association = AE().associate("127.0.0.1", port, contexts=contexts)
        assert association.is_established
        answered = {c.context_id: c for c in (*association.accepted_contexts, *association.rejected_contexts)}
        association.release()
        assert sorted(answered) == [2 * index + 1 for index in range(len(part))]
        for index in range(1, len(part)):
            context = answered[2 * index + 1]
            result = context.result
            found.append((result, str(context.transfer_syntax[0]) if result == 0 else ""))
    return found


def proposals() -> list[Proposal]:
    """Every class that anybody may propose, each three times with a few transfer syntaxes in some order."""
    draw = random.Random(0)
    often = [EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG_LOSSLESS, JPEG_2000]
    syntaxes = (
        [uid for uid in uids.TRANSFER_SYNTAXES if uid != "1.2.840.10008.1.20"] + ["1.2.840.113619.5.2"] + often * 8
    )
    classes = sorted({*uids.STORAGE_SOP_CLASSES, *uids.OTHER_SOP_CLASSES, "1.3.12.2.1107.5.9.1"} - {uids.VERIFICATION})
    return [
        (sop_class, tuple(dict.fromkeys(draw.choices(syntaxes, k=count))))
        for sop_class in classes
        for count in (1, 3, 8)
    ]


@pytest.mark.interop("storescp")
@pytest.mark.parametrize(
    ("source", "name"), [("storescp.cfg", "Default"), ("storescp.cfg", "AllDICOM"), ("", "OURPROFILE")]
)
def test_every_context_is_answered_as_storescp_answers_it(tmp_path: Path, source: str, name: str) -> None:
    text = shipped(source).read_text() if source else LIKE_THE_ORIGINAL
    proposed = proposals()
    with receiving(tmp_path, text, name) as port:
        ours = answers(port, proposed)
    with storescp(tmp_path, text, name) as port:
        theirs = answers(port, proposed)
    assert dict(zip(proposed, ours, strict=True)) == dict(zip(proposed, theirs, strict=True))
    assert {result for result, _ in ours} == {0, 3, 4}


# --- beside DcmStore.ini ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert cli.main(["init", str(tmp_path)]) == 0
    capsys.readouterr()
    return tmp_path


def check(folder: Path, **keys: str) -> int:
    with (folder / "DcmStore.ini").open("a") as out:
        out.write("".join(f"{key}= {value}\n" for key, value in {"port": "0", **keys}.items()))
    return cli.main(["check", "--config", str(folder / "DcmStore.ini")])


def test_without_a_profile_file_check_says_that_everything_is_accepted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(folder) == 0
    assert "\nok    no PresContextCfg.ini: every SOP class and transfer syntax\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["PresContextCfg.ini", "PresContext.ini"])
def test_check_says_which_profile_of_which_file_is_in_force(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / name).write_text(TWO)
    assert check(folder, profile="second") == 0
    shown = capsys.readouterr().out
    assert f"\nok    {folder / name}, profile Second (line 12): 1 SOP classes; not in use: Hospital\n" in shown
    assert f"note  {folder / name}, line 14: [[PresentationContexts]] again" in shown


def test_of_both_files_the_one_that_the_original_reads_counts_and_a_warning_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "PresContext.ini").write_text(SMALL)
    (folder / "PresContextCfg.ini").write_text("not looked at")
    assert check(folder) == 0
    shown = capsys.readouterr().out
    assert f"note  {folder / 'PresContextCfg.ini'}: is ignored, for PresContext.ini is there too" in shown
    assert f"{folder / 'PresContext.ini'}, profile Hospital (line 10): 2 SOP classes\n" in shown


def test_a_profile_without_a_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, profile="Hospital") == 2
    told = capsys.readouterr().err
    assert re.search(r"DcmStore\.ini, line \d+: profile= 'Hospital': allowed is nothing, for ", told)
    assert told.endswith(" there is no PresContextCfg.ini beside it\n")


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_file_stops_the_command_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (folder / "PresContextCfg.ini").write_text(with_line(8, r"PresentationContext2 = CTImage\Uncompressed"))
    assert cli.main([command, "--config", str(folder / "DcmStore.ini")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"dcmstore: {folder / 'PresContextCfg.ini'}, line 8: ")
    assert len(told.err.splitlines()) == 1


def test_a_receiver_with_a_profile_says_so_and_logs_its_warnings(folder: Path) -> None:
    (folder / "PresContextCfg.ini").write_text(TWO)
    with (folder / "DcmStore.ini").open("a") as out:
        out.write("port= 0\nbind= 127.0.0.1\n")
    arguments = [sys.executable, "-m", "dcmstore", "run", "--config", str(folder / "DcmStore.ini")]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "receiver.listening" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    log = [line for line in lines if "T" in line.split(" ")[0]]
    assert re.search(r"config\.warning text=.*line 14: \[\[PresentationContexts\]\] again", "".join(log))
    assert log[-1].endswith(" profile=Hospital\n")


# --- the documentation --------------------------------------------------------------------------------------


def test_the_example_in_the_documentation_works(file: Path) -> None:
    page = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"(?ms)^```ini\n(.*?)^```", page)
    taken = read(file, example)
    assert taken.warnings == ()
    accepted = f"profile {taken.name} (line {taken.line}): {len(taken.sop_classes)} SOP classes"
    assert accepted in page
    assert CT in taken.sop_classes
    assert "1.2.840.10008.5.1.4.1.1.88.67" in taken.sop_classes
    assert f"`{profile.FILE_NAME}`" in page and f"`{profile.OTHER_FILE_NAME}`" in page


def test_the_key_for_the_name_is_in_the_sample() -> None:
    assert "\nprofile=\n" in config.sample()
