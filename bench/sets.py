"""numbers -> data sets -> PS3.10 files: what is sent, the same bytes every time, each with a UID of its own."""

import random
import struct
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dcmstore import uids
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MULTI_FRAME_WORD = "1.2.840.10008.5.1.4.1.1.7.3"
XRAY_DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"

NOISE = 1024 * 1024  # bytes of random pixels; longer images repeat them
PER_SERIES = 50
SERIES_PER_PATIENT = 3
_LONG_VRS = ("OB", "OW", "SQ", "UN", "UT")

# What a CT scanner writes: group, element, VR, value. 66 elements stand before Series Number.
_HEADER = r"""
0008 0005 CS ISO_IR 100
0008 0008 CS ORIGINAL\PRIMARY\AXIAL\CT_SOM5 SPI
0008 0012 DA 20240517
0008 0013 TM 093012.417000
0008 0016 UI {sop_class}
0008 0018 UI {sop_instance}
0008 0020 DA 20240517
0008 0021 DA 20240517
0008 0022 DA 20240517
0008 0023 DA 20240517
0008 0030 TM 092841.102000
0008 0031 TM 092955.018000
0008 0032 TM 093004.633812
0008 0033 TM 093004.633812
0008 0050 SH A{patient:08}
0008 0060 CS {modality}
0008 0070 LO BENCH IMAGING SYSTEMS
0008 0080 LO Ospedale di Prova
0008 0081 ST Largo della Prova 1, Firenze
0008 0090 PN Rossi^Mario^^Dr.
0008 1010 SH CTAWP73214
0008 1030 LO Abdomen^01_AbdomenRoutine (Adult)
0008 103E LO AbdRoutine  3.0  B30f
0008 1040 LO Radiology
0008 1050 PN Bianchi^Anna
0008 1060 PN Verdi^Luca
0008 1070 PN Neri^Paola
0008 1090 LO Sensation 64
0008 1140 SQ
0010 0010 PN Prova^Paziente {patient}
0010 0020 LO BENCH{patient:06}
0010 0030 DA 19580211
0010 0040 CS F
0010 1000 LO 4711-{patient}
0010 1010 AS 066Y
0010 1020 DS 1.68
0010 1030 DS 71.5
0010 2180 SH retired
0010 21B0 LT Follow-up after resection
0010 4000 LT no comment
0018 0015 CS ABDOMEN
0018 0022 CS HELIX
0018 0050 DS 3
0018 0060 DS 120
0018 0090 DS 500
0018 1000 LO 54321
0018 1020 LO syngo CT 2012B
0018 1030 LO 01_AbdomenRoutine
0018 1040 LO APPLIED
0018 1100 DS 350
0018 1110 DS 1040
0018 1111 DS 570
0018 1120 DS 0
0018 1130 DS 151.5
0018 1140 CS CW
0018 1150 IS 500
0018 1151 IS 214
0018 1152 IS 107
0018 1160 SH FLAT
0018 1170 IS 25
0018 1190 DS 1.2
0018 1210 SH B30f
0018 5100 CS HFS
0020 000D UI {study}
0020 000E UI {series}
0020 0010 SH {patient}
0020 0011 IS {series_number}
0020 0012 IS 1
0020 0013 IS {number}
"""
_PIXEL_DESCRIPTION = r"""
0020 0032 DS -175.0\-318.5\-{number}.0
0020 0037 DS 1\0\0\0\1\0
0028 0002 US 1
0028 0004 CS MONOCHROME2
"""


@dataclass(frozen=True, slots=True)
class ObjectSet:
    """Objects of one kind. `data_set` makes the one with the given number, in Explicit VR Little Endian."""

    name: str
    about: str
    count: int
    size: int  # bytes an object, about
    sop_class_uid: str
    data_set: Callable[[int], bytes]

    @property
    def total_size(self) -> int:
        return self.count * self.size


def full() -> tuple[ObjectSet, ...]:
    """The sets that are measured."""
    return (ct(600), small(2000), large(3, frames=400), dose_reports(300))


def short() -> tuple[ObjectSet, ...]:
    """Enough to see whether everything arrives."""
    return (ct(20), small(50), large(2, frames=60), dose_reports(20))


def ct(count: int) -> ObjectSet:
    about = f"{count} CT images of 512x512 16 bit"
    return ObjectSet("ct", about, count, 527_000, CT_IMAGE, lambda number: _image(CT_IMAGE, "ct", number, 512, 1))


def small(count: int) -> ObjectSet:
    about = f"{count} images of 8 kB"
    return ObjectSet("small", about, count, 8_200, CT_IMAGE, lambda number: _image(CT_IMAGE, "small", number, 56, 1))


def large(count: int, frames: int) -> ObjectSet:
    size = frames * 512 * 512 * 2
    return ObjectSet(
        "large",
        f"{count} multi-frame images of {size / 1e6:.0f} MB",
        count,
        size + 2_000,
        MULTI_FRAME_WORD,
        lambda number: _image(MULTI_FRAME_WORD, "large", number, 512, frames),
    )


def dose_reports(count: int) -> ObjectSet:
    about = f"{count} dose reports of 20 to 300 kB"
    return ObjectSet("rdsr", about, count, 160_000, XRAY_DOSE_SR, lambda number: _dose_report(number, count))


def write(objects: ObjectSet, folder: Path) -> list[Path]:
    """Write a set as files `00000.dcm`, `00001.dcm` … into a new folder; return their paths in order."""
    folder.mkdir()
    paths = []
    for number in range(objects.count):
        meta = FileMeta(
            objects.sop_class_uid, _uid(objects.name, number), uids.EXPLICIT_VR_LITTLE_ENDIAN, source_ae_title="BENCH"
        )
        path = folder / f"{number:05}.dcm"
        path.write_bytes(part10.encode(meta) + objects.data_set(number))
        paths.append(path)
    return paths


# --- data sets -----------------------------------------------------------------------------------


def _image(sop_class: str, name: str, number: int, side: int, frames: int) -> bytes:
    header = _header(sop_class, name, number, "CT") + _elements(_PIXEL_DESCRIPTION, number=number)
    if frames > 1:
        header += _element(0x0028, 0x0008, "IS", str(frames).encode())
    header += b"".join(
        _element(0x0028, element, "US", struct.pack("<H", value))
        for element, value in ((0x10, side), (0x11, side), (0x100, 16), (0x101, 12), (0x102, 11), (0x103, 0))
    )
    return header + _element(0x7FE0, 0x0010, "OW", _pixels(number, side * side * 2 * frames))


def _pixels(number: int, size: int) -> bytes:
    """Noise that begins at another place for every object."""
    start = number * 7919 % NOISE
    rounds = (start + size) // NOISE + 1
    return bytes(memoryview(_noise() * rounds)[start : start + size])


@cache
def _noise() -> bytes:
    return random.Random(1).randbytes(NOISE)


def _dose_report(number: int, count: int) -> bytes:
    """A title and a flat list of measured values: 20 kB for the first report, 300 kB for the last."""
    wanted = 20_000 + 280_000 * number // max(count - 1, 1)
    item = _numeric_item(number)
    content = [item] * (wanted // len(item))
    return (
        _header(XRAY_DOSE_SR, "rdsr", number, "SR")
        + _element(0x0040, 0xA040, "CS", b"CONTAINER")
        + _sequence(0x0040, 0xA043, [_code("113701", "DCM", "X-Ray Radiation Dose Report")])
        + _element(0x0040, 0xA050, "CS", b"SEPARATE")
        + _element(0x0040, 0xA491, "CS", b"COMPLETE")
        + _element(0x0040, 0xA493, "CS", b"UNVERIFIED")
        + _sequence(0x0040, 0xA730, content)
    )


def _numeric_item(number: int) -> bytes:
    unit = _sequence(0x0040, 0x08EA, [_code("mGy", "UCUM", "mGy")])
    value = _element(0x0040, 0xA30A, "DS", f"{number + 0.25:.2f}".encode())
    return (
        _element(0x0040, 0xA010, "CS", b"CONTAINS")
        + _element(0x0040, 0xA040, "CS", b"NUM")
        + _sequence(0x0040, 0xA043, [_code("113830", "DCM", "Mean CTDIvol")])
        + _sequence(0x0040, 0xA300, [unit + value])
    )


def _code(value: str, scheme: str, meaning: str) -> bytes:
    return (
        _element(0x0008, 0x0100, "SH", value.encode())
        + _element(0x0008, 0x0102, "SH", scheme.encode())
        + _element(0x0008, 0x0104, "LO", meaning.encode())
    )


def _header(sop_class: str, name: str, number: int, modality: str) -> bytes:
    """What stands before the pixels or the content; a dose report has no acquisition module."""
    series = number // PER_SERIES
    patient = series // SERIES_PER_PATIENT
    table = _HEADER if modality != "SR" else "\n".join(line for line in _HEADER.splitlines() if line[:4] != "0018")
    return _elements(
        table,
        sop_class=sop_class,
        sop_instance=_uid(name, number),
        modality=modality,
        patient=patient + 1,
        study=_uid(name, f"study {patient}"),
        series=_uid(name, f"series {series}"),
        series_number=series % SERIES_PER_PATIENT + 1,
        number=number % PER_SERIES + 1,
    )


# --- elements ------------------------------------------------------------------------------------


def _elements(table: str, **values: object) -> bytes:
    return b"".join(_line(line, values) for line in table.splitlines() if line)


def _line(line: str, values: dict[str, object]) -> bytes:
    group, number, vr, *text = line.split(" ", 3)
    if vr == "SQ":
        reference = _element(0x0008, 0x1150, "UI", CT_IMAGE.encode()) + _element(0x0008, 0x1155, "UI", b"1.2.3.4")
        return _sequence(int(group, 16), int(number, 16), [reference])
    value = text[0].format(**values)
    raw = struct.pack("<H", int(value)) if vr == "US" else value.encode("ascii")
    return _element(int(group, 16), int(number, 16), vr, raw)


def _element(group: int, number: int, vr: str, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian, padded to even length (PS3.5 6.2, 7.1.2)."""
    value += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) % 2)
    if vr in _LONG_VRS:
        return struct.pack("<HH2s2xI", group, number, vr.encode(), len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def _sequence(group: int, number: int, contents: Iterable[bytes]) -> bytes:
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content for content in contents)
    return _element(group, number, "SQ", items)


def _uid(name: str, what: object) -> str:
    """A UID derived from a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'dcmstore bench {name} {what}').int}"
