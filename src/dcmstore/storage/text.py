"""bytes + Specific Character Set -> Unicode: enough of PS3.5 6.1 to name a folder.

Never fails. What a designated set can't hold becomes U+FFFD, and names.py tells such names apart by their bytes.
"""

import contextlib
import re
import unicodedata

_ESC = b"\x1b"

# PS3.3 C.12.1.1.2, defined terms without code extensions; with them the same number stands behind `ISO 2022 IR`.
_CODECS = {
    "6": "ascii",
    "100": "iso8859_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "144": "iso8859_5",
    "127": "iso8859_6",
    "126": "iso8859_7",
    "138": "iso8859_8",
    "148": "iso8859_9",
    "203": "iso8859_15",
    "166": "tis_620",
    "13": "shift_jis",
    "87": "iso2022_jp",
    "159": "iso2022_jp_2",
    "149": "euc_kr",
    "58": "gb2312",
    "192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
# These fill both halves of the code table, so an escape sequence has no meaning in them (PS3.5 6.1.2.4).
_WITHOUT_EXTENSIONS = ("utf_8", "gb18030", "gbk")

# PS3.3 tables C.12-3 and C.12-4: what each escape sequence switches to, and whether the codec wants to see it.
_ESCAPES: dict[bytes, tuple[str, bool]] = {
    b"\x1b(B": ("ascii", False),
    b"\x1b-A": ("iso8859_1", False),
    b"\x1b-B": ("iso8859_2", False),
    b"\x1b-C": ("iso8859_3", False),
    b"\x1b-D": ("iso8859_4", False),
    b"\x1b-L": ("iso8859_5", False),
    b"\x1b-G": ("iso8859_6", False),
    b"\x1b-F": ("iso8859_7", False),
    b"\x1b-H": ("iso8859_8", False),
    b"\x1b-M": ("iso8859_9", False),
    b"\x1b-b": ("iso8859_15", False),
    b"\x1b-T": ("tis_620", False),
    b"\x1b)I": ("shift_jis", False),
    b"\x1b(J": ("shift_jis", False),
    b"\x1b$B": ("iso2022_jp", True),
    b"\x1b$@": ("iso2022_jp", True),
    b"\x1b$(D": ("iso2022_jp_2", True),
    b"\x1b$)C": ("euc_kr", False),
    b"\x1b$)A": ("gb2312", False),
}
_ESCAPE = re.compile(b"|".join(re.escape(sequence) for sequence in sorted(_ESCAPES, key=len, reverse=True)))


def codec_of(defined_term: str) -> str | None:
    """The Python codec of one value of Specific Character Set; misspelt terms of real senders included."""
    term = defined_term.strip().upper().replace("_", " ").replace("-", " ")
    if term in ("", "ISO IR 6", "ASCII"):
        return "ascii"
    if term in ("UTF8", "UTF 8"):
        return "utf_8"
    number = re.sub(r"^ISO ?(20\d\d ?)?(IR ?)?", "", term)
    return _CODECS.get(number)


def decode(value: bytes, specific_character_set: bytes) -> str:
    """Decode one value of a LO, SH or PN element into NFC without its padding.

    `specific_character_set` is the raw value of (0008,0005), empty when absent. Where it is absent, unknown or
    plainly wrong, the bytes are read as UTF-8 if they fit, else as Latin-1, which most such senders mean.
    """
    if value.isascii() and _ESC not in value:
        return value.decode("ascii").strip(" \0")
    terms = specific_character_set.decode("latin-1").strip(" \0").split("\\")
    first = codec_of(terms[0])
    if _ESC in value and first not in _WITHOUT_EXTENSIONS:
        decoded = _decode_with_extensions(value, first or "ascii")
    else:
        decoded = _decode_undesignated(value, first)
    return unicodedata.normalize("NFC", decoded).strip(" \0")


def _decode_undesignated(value: bytes, declared: str | None) -> str:
    """Without escape sequences the declared set counts, unless the bytes contradict it: then what they fit."""
    for codec in (declared, "utf_8"):
        with contextlib.suppress(UnicodeDecodeError):
            if codec is not None:
                return value.decode(codec)
    return value.decode("latin-1")


def _decode_with_extensions(value: bytes, first: str) -> str:
    """ISO 2022: each escape sequence sets the codec of what follows, up to the next or to a delimiter."""
    return "".join(_decode_component(part, first) for part in _split_components(value))


def _split_components(value: bytes) -> list[bytes]:
    """Cut at delimiters, each its own part, but not inside two-byte text of G0, where these bytes are halves."""
    parts, start, position, double_byte = [], 0, 0, False
    while position < len(value):
        escape = _ESCAPE.match(value, position)
        if escape:
            double_byte = escape[0].startswith(b"\x1b$") and _ESCAPES[escape[0]][1]
            position = escape.end()
        elif not double_byte and value[position : position + 1] in (b"\\", b"^", b"="):
            parts += [value[start:position], value[position : position + 1]]
            position += 1
            start = position
        else:
            position += 1
    return [*parts, value[start:]]


def _decode_component(part: bytes, first: str) -> str:
    escapes = list(_ESCAPE.finditer(part))
    if not escapes:
        return _decode_undesignated(part, first)
    text = _decode_undesignated(part[: escapes[0].start()], first)
    ends = [escape.start() for escape in escapes[1:]] + [len(part)]
    for escape, end in zip(escapes, ends, strict=True):
        codec, wants_escape = _ESCAPES[escape[0]]
        shown = escape[0] if wants_escape else b""
        text += (shown + part[escape.end() : end]).decode(codec, "replace")
    return text
