"""Decoding of peers' text: the standard's examples, pydicom as the oracle, what real senders misspell, and anything."""

import unicodedata
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings
from pydicom.valuerep import PersonName

from dcmstore.storage import text

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# PS3.5 annexes H (Japanese), I (Korean), J (Chinese without code extensions) and K (with), and the sample files of
# D. Clunie that pydicom ships: Specific Character Set, bytes, text.
EXAMPLES = {
    "H.3.1": (
        rb"\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "H.3.2": (
        rb"ISO 2022 IR 13\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "I.2": (
        rb"\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "J.1": (b"ISO_IR 192", b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=", "Wang^XiaoDong=王^小東="),
    "J.2": (b"GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    "J.3": (b"GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    "K.2": (
        rb"\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    "Arabic": (b"ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار"),
    "French": (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    "German": (b"ISO_IR 100", b"\xc4neas^R\xfcdiger", "Äneas^Rüdiger"),
    "Greek": (b"ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    "Hebrew": (b"ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
    "Russian": (b"ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг"),
    "Polish": (b"ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa"),
    "Maltese": (b"ISO_IR 109", b"\xa1amrun", "Ħamrun"),
    "Latvian": (b"ISO_IR 110", b"B\xearzi\xf1\xb9", "Bęrziņš"),
    "Turkish": (b"ISO_IR 148", b"\xdeahin^\xddnan", "Şahin^İnan"),
    "Thai": (b"ISO_IR 166", b"\xca\xc1\xaa\xd2\xc2", "สมชาย"),
    "Katakana": (b"ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    "Korean in one byte set": (rb"\ISO 2022 IR 149", b"\x1b$)C\xb1\xe8\xc8\xf1\xc1\xdf\x1b(B ", "김희중"),
    "JIS X 0212": (rb"\ISO 2022 IR 87\ISO 2022 IR 159", b'\x1b$(D0!0"\x1b(B^\x1b$B;3\x1b(B', "丂丄^山"),
    "Greek and Cyrillic": (
        rb"ISO 2022 IR 100\ISO 2022 IR 144\ISO 2022 IR 126",
        b"Dion\xefs=\x1b-L\xbb\xee\xdace=\x1b-F\xc4\xe9\xef\xed",
        "Dionïs=Люкce=Διον",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_decoded(name: str) -> None:
    character_set, value, expected = EXAMPLES[name]
    assert text.decode(value, character_set) == unicodedata.normalize("NFC", expected).strip()


# pydicom 3.0 leaves the escape sequence of GB 2312 in the text (K.2).
@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"K.2"}))
def test_an_example_is_decoded_as_pydicom_does(name: str) -> None:
    character_set, value, _ = EXAMPLES[name]
    assert without_empty_groups(text.decode(value, character_set)) == decoded_by_pydicom(value, character_set)


@pytest.mark.parametrize(
    "path",
    sorted((Path(pydicom.__file__).parent / "data" / "charset_files").glob("chr*.dcm")),
    ids=lambda path: path.name,
)
def test_the_names_in_pydicoms_sample_files_are_decoded_as_pydicom_does(path: Path) -> None:
    ds = pydicom.dcmread(path)
    character_set = terms(ds.get("SpecificCharacterSet", ""))
    for tag in (0x0010_0010, 0x0010_0020, 0x0020_0010):
        raw = ds.get_item(tag).value if tag in ds else b""
        decoded = str(ds[tag].value) if raw else ""
        assert without_empty_groups(text.decode(raw or b"", character_set)) == normalized(decoded)


def terms(character_set: object) -> bytes:
    values = [character_set] if isinstance(character_set, str) else list(character_set)  # type: ignore[call-overload]
    return "\\".join(values).encode()


def normalized(decoded: str) -> str:
    return unicodedata.normalize("NFC", decoded).strip(" \0")


def without_empty_groups(name: str) -> str:
    """A PersonName of pydicom drops component groups that are empty at the end."""
    return name.rstrip("= ")


def decoded_by_pydicom(value: bytes, character_set: bytes) -> str:
    return normalized(str(PersonName(value, convert_encodings(character_set.decode().split("\\")))))


ASCII = "abcXYZ 019-.'"
REPERTOIRES = {  # declared character sets, and letters that they hold
    rb"\ISO 2022 IR 87": ASCII + "山田太郎やまだたろうアメリカ一二三",
    rb"ISO 2022 IR 13\ISO 2022 IR 87": "ABC019 ﾔﾏﾀﾞﾛｳ山田太郎やまだ",
    rb"\ISO 2022 IR 149": ASCII + "洪吉洞홍길동김희중가나다",
    rb"ISO 2022 IR 100\ISO 2022 IR 144": ASCII + "éèüßñЛюксембург",
    rb"ISO 2022 IR 126\ISO 2022 IR 127": ASCII + "Διονυσιοςقبانيلنزار",
    rb"ISO 2022 IR 138\ISO 2022 IR 166": ASCII + "שרוןדבורהสมชาย",
    rb"ISO 2022 IR 101\ISO 2022 IR 109\ISO 2022 IR 110\ISO 2022 IR 148": ASCII + "ałęsaĦņšŞİ",
    b"ISO_IR 192": ASCII + "山éЛ홍สקب😀",
    b"GB18030": ASCII + "王小东é山😀홍",
    b"GBK": ASCII + "王小东山李",
    b"ISO_IR 100": ASCII + "éèüßñÿÄ",
    b"ISO_IR 13": "ﾔﾏﾀﾞﾛｳ",  # pydicom refuses to mix these with ASCII
}


@given(data=st.data(), character_set=st.sampled_from(sorted(REPERTOIRES)))
def test_what_pydicom_encodes_is_decoded_to_the_same(data: st.DataObject, character_set: bytes) -> None:
    part = st.text(alphabet=REPERTOIRES[character_set], max_size=8)
    name = "=".join("^".join(group) for group in data.draw(st.lists(st.lists(part, max_size=3), max_size=3)))
    encodings = convert_encodings(character_set.decode().split("\\"))
    encoded = PersonName(name, encodings).encode(encodings)
    assert without_empty_groups(text.decode(encoded, character_set)) == normalized(without_empty_groups(name))


@pytest.mark.parametrize("number", ["100", "101", "109", "110", "144", "127", "126", "138", "148", "166", "13"])
def test_a_single_byte_set_means_the_same_as_its_code_extension(number: str) -> None:
    value = bytes(range(0xA1, 0xBF))
    plain = text.decode(value, f"ISO_IR {number}".encode())
    assert text.decode(value, f"ISO 2022 IR {number}".encode()) == plain
    assert "\ufffd" not in plain


def test_iso_ir_203_is_latin_9() -> None:
    assert text.decode(b"\xa4\xbd", b"ISO_IR 203") == "€œ"


@pytest.mark.parametrize(
    "misspelt, codec",
    [
        ("ISO-IR 100", "iso8859_1"),
        ("ISO_IR_100", "iso8859_1"),
        ("ISO IR 100", "iso8859_1"),
        ("ISO_IR100", "iso8859_1"),
        ("iso_ir 100", "iso8859_1"),
        ("ISO_IR 100 ", "iso8859_1"),
        ("ISO 2020 IR 87", "iso2022_jp"),
        ("ISO2022IR87", "iso2022_jp"),
        ("ISO 2022 58", "gb2312"),
        ("ISO 2022 GBK", "gbk"),
        ("gbk", "gbk"),
        ("gb18030", "gb18030"),
        ("utf-8", "utf_8"),
        ("UTF8", "utf_8"),
        ("ISO_IR 6", "ascii"),
        ("ISO 2022 IR 6", "ascii"),
        ("", "ascii"),
        ("WINDOWS_1252", None),
        ("ISO_IR 999", None),
    ],
)
def test_a_misspelt_defined_term_is_recognised(misspelt: str, codec: str | None) -> None:
    assert text.codec_of(misspelt) == codec


def test_latin_1_bytes_declared_as_utf_8_are_read_as_latin_1() -> None:
    assert text.decode(b"M\xfcller^J\xf6rg", b"ISO_IR 192") == "Müller^Jörg"


def test_utf_8_bytes_without_a_declared_set_are_read_as_utf_8() -> None:
    assert text.decode("Müller".encode(), b"") == "Müller"


def test_latin_1_bytes_without_a_declared_set_are_read_as_latin_1() -> None:
    assert text.decode(b"M\xfcller", b"") == "Müller"


def test_bytes_that_a_declared_set_does_not_hold_are_read_as_utf_8_when_they_fit() -> None:
    assert text.decode("홍길동".encode(), b"ISO_IR 6") == "홍길동"


def test_an_unknown_set_is_treated_as_absent() -> None:
    assert text.decode("Łódź".encode(), b"NO SUCH SET") == "Łódź"


def test_letters_are_composed() -> None:
    assert text.decode(b"Mu\xcc\x88ller", b"ISO_IR 192") == "Müller"


@pytest.mark.parametrize("padded", [b" PAT1 ", b"PAT1\0", b"PAT1 \0", b"\0PAT1"])
def test_padding_is_no_part_of_a_value(padded: bytes) -> None:
    assert text.decode(padded, b"") == "PAT1"


def test_a_delimiter_ends_what_an_escape_sequence_switched_to() -> None:
    # PS3.5 6.1.2.5.3: behind `^` the first set is in force again, whoever forgot to switch back
    assert text.decode(b"\x1b-L\xbb^\xe9", rb"ISO 2022 IR 100\ISO 2022 IR 144") == "Л^é"


def test_halves_of_two_byte_characters_are_not_taken_for_delimiters() -> None:
    # The second bytes of ま, そ and ぼ in JIS X 0208 are the codes of `^`, `=` and `\`.
    assert text.decode(b"\x1b$B$^$=$\\\x1b(B", rb"\ISO 2022 IR 87") == "まそぼ"


def test_what_a_designated_set_does_not_hold_becomes_the_replacement_character() -> None:
    assert text.decode(b"\x1b$)A\xff\xff", rb"\ISO 2022 IR 58").count("\ufffd") >= 1


BYTES = st.lists(
    st.one_of(st.binary(max_size=6), st.sampled_from([*text._ESCAPES, b"\x1b", b"^", b"=", b"\\"])), max_size=8
).map(b"".join)
SETS = st.one_of(
    st.binary(max_size=30),
    st.lists(st.sampled_from(["", *(f"ISO 2022 IR {n}" for n in text._CODECS), "ISO_IR 192", "GBK"]), max_size=4).map(
        lambda values: "\\".join(values).encode()
    ),
)


@given(value=BYTES, character_set=SETS)
def test_any_bytes_in_any_set_are_decoded_into_nfc_that_utf_8_can_hold(value: bytes, character_set: bytes) -> None:
    decoded = text.decode(value, character_set)
    assert unicodedata.is_normalized("NFC", decoded)
    assert decoded.encode("utf-8").decode("utf-8") == decoded


@given(value=st.text(alphabet=st.characters(max_codepoint=0x7E, exclude_characters="\x1b")), character_set=SETS)
def test_ascii_means_the_same_in_every_set(value: str, character_set: bytes) -> None:
    assert text.decode(value.encode(), character_set) == value.strip(" \0")
