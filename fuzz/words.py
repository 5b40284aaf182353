"""The words of the standard and of our files, which no mutation would come upon by itself."""

from dcmstore.settings import KEYS

_UIDS = (
    "1.2.840.10008.1.1", "1.2.840.10008.3.1.1.1", "1.2.840.10008.4.2", "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.1.20.1", "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70", "1.2.3", "1..2",
)  # fmt: skip
_VRS = "AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV"
_TAGS = "00080005 00080016 00080018 00080060 00080100 00080102 00100010 00100020 00200010 00200011 00200013 0040A043 " \
        "7FE00010 FFFEE000 FFFEE00D FFFEE0DD 00020010 FFFF0000"  # fmt: skip
_TERMS = "ISO_IR 100|ISO_IR 101|ISO_IR 144|ISO_IR 192|ISO_IR 13|ISO 2022 IR 87|ISO 2022 IR 149|ISO 2022 IR 58|" \
         "GB18030|GBK|\\ISO 2022 IR 159|ISO_IR 166"  # fmt: skip
_ESCAPES = (b"\x1b(B", b"\x1b-A", b"\x1b-F", b"\x1b)I", b"\x1b(J", b"\x1b$B", b"\x1b$@", b"\x1b$(D", b"\x1b$)C",
            b"\x1b$)A", b"\x1b-T", b"\x1b-b")  # fmt: skip
_NAMES = (
    "CON|con.txt|COM1|LPT\xb9|NUL |..|../|..\\|C:|.incoming|QUARANTINE|DICOMDIR|ID_Unknown|nr|~00000000|A~1|.dcm|~1.x"
)
_PROFILE = "[[TransferSyntaxes]]|[[PresentationContexts]]|[[Profiles]]|[[SCPSCURoleSelection]]|" \
           "TransferSyntax1 = |PresentationContext1 = |PresentationContexts = |[A]|\\A|\\A\\SCU|LocalEndianExplicit|" \
           "CTImageStorage"  # fmt: skip


def _tag(hexadecimal: str) -> tuple[bytes, bytes]:
    group, number = bytes.fromhex(hexadecimal[:4]), bytes.fromhex(hexadecimal[4:])
    return group + number, group[::-1] + number[::-1]


_STANDARD = [
    *(uid.encode() for uid in _UIDS),
    *_VRS.encode().split(),
    *(tag for word in _TAGS.split() for tag in _tag(word)),
    b"\xff\xff\xff\xff",
    *_ESCAPES,
    *_TERMS.encode().split(b"|"),
    *_NAMES.encode("latin-1").split(b"|"),
]
_FILES = [
    *(f"{spelling.name}= ".encode() for key in KEYS.values() for spelling in key.spellings()),
    b"\xef\xbb\xbf", b"; ", b" # ", b"\r\n", b"both", b"keep", b"replace", b"debug", b"uncompressed", b'"',
    *_PROFILE.encode().split(b"|"),
]  # fmt: skip

WORDS = _STANDARD


def dictionary(*, of_files: bool) -> str:
    """A dictionary file in the form of libFuzzer."""
    words = _FILES if of_files else _STANDARD
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in words if word)
    return "".join(f'"{word}"\n' for word in escaped)
