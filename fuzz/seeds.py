"""real senders -> first inputs: what DCMTK and pynetdicom send to this receiver, and the heads of pydicom's files.

`python -m fuzz.seeds` writes seeds/ anew. It needs the programs that the interoperability tests send with.
"""

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pydicom
from pynetdicom import AE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from dcmstore import config
from dcmstore.storage import part10
from fuzz import corpus, reference, words
from fuzz.reference import PDV
from fuzz.targets import TARGETS, headers, large, naming, settings
from tests import support
from tests.tap import tapping

LONGEST_FILE = 9_000  # bytes of a file that is sent; the others would fill the corpus with pixels
_VALUE_TAGS = (0x00080005, 0x00100020, 0x00100010, 0x00200010, 0x00200011, 0x00080060, 0x00200013)


def _pydicom_files() -> list[Path]:
    spec = find_spec("pydicom")
    assert spec is not None and spec.origin is not None
    return sorted((Path(spec.origin).parent / "data").rglob("*.dcm"))


def _profile_sample() -> str:
    return (
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LocalEndianExplicit\nTransferSyntax2 = LittleEndianImplicit\n"
        "[[PresentationContexts]]\n[Storage]\nPresentationContext1 = CTImageStorage\\Plain\n"
        "PresentationContext2 = 1.2.840.10008.5.1.4.1.1.4\\Plain\\SCU\n"
        "[[Profiles]]\n[Default]\nPresentationContexts = Storage\n"
    )


def _streams() -> list[bytes]:
    """What each sender sent, a stream an association."""
    small = [str(path) for path in _pydicom_files() if path.stat().st_size <= LONGEST_FILE]
    with tempfile.TemporaryDirectory() as name, support.running(Path(name)) as receiver, tapping(receiver.port) as tap:
        peer = ["127.0.0.1", str(tap.port)]
        for command in (
            ["echoscu", *peer],
            ["echoscu", "--abort", *peer],
            ["storescu", "--no-halt", "--propose-lossless", *peer, *small[:4]],
            ["storescu", "--no-halt", "--max-pdu", "4096", "-R", *peer, *small[4:6]],
            ["storescu", "--no-halt", "--propose-little", "--user", "anna", "--password", "secret", *peer, *small[6:8]],
            ["dcmsend", "--no-halt", *peer, *small],
            ["dcmsend", "--no-halt", "--decompress-never", *peer, *small[-3:]],
        ):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=False)
        _send_with_pynetdicom(tap.port, small[:2])
        return [bytes(stream) for stream in tap._streams]


def _send_with_pynetdicom(port: int, paths: list[str]) -> None:
    ae = AE(ae_title="PEER")
    contexts = [build_context(Verification), build_context(CTImageStorage)]
    for path in paths:
        contexts.append(build_context(pydicom.dcmread(path, force=True).get("SOPClassUID", "1.2.3")))
    association = ae.associate("127.0.0.1", port, contexts=contexts)
    association.send_c_echo()
    for path in paths:
        with warnings.catch_warnings(action="ignore"):
            try:
                association.send_c_store(path)
            except (ValueError, AttributeError) as error:
                print(f"pynetdicom does not send {path}: {error}", file=sys.stderr)
    association.release()


def _answers() -> list[bytes]:
    """What a receiver of others answers: A-ASSOCIATE-AC and -RJ, responses, A-RELEASE-RP."""
    answers = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for flags in ([], ["--refuse"]):
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(["storescp", *flags, "-od", folder, str(port)], stderr=subprocess.DEVNULL)
            try:
                answers.append(_ask(port))
            finally:
                process.terminate()
                process.wait()
    return answers


def _ask(port: int) -> bytes:
    """One association with a C-ECHO, and the bytes that come back."""
    from dcmstore.dimse import command
    from dcmstore.dimse.command import CommandField, CommandSet
    from dcmstore.ul import pdu
    from dcmstore.ul.pdu import AReleaseRQ

    request = CommandSet(CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid="1.2.840.10008.1.1")
    wanted = support.association_request("1.2.840.10008.1.1", support.CT)
    echo = pdu.encode_p_data(1, command.encode(request), is_command=True, peer_max_length=16384)
    pause = threading.Event()
    for _ in range(50):
        try:
            peer = socket.create_connection(("127.0.0.1", port), 5)
            break
        except ConnectionRefusedError:
            pause.wait(0.1)
    else:
        return b""
    with peer:
        peer.sendall(pdu.encode(wanted) + echo + pdu.encode(AReleaseRQ()))
        peer.settimeout(2)  # it waits for us to close, as the standard has it
        received = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while chunk := peer.recv(65536):
                received += chunk
        return received


def _data_sets() -> Iterator[tuple[str, bytes]]:
    """Transfer syntax and the first bytes of the data set of every file that pydicom has for its tests."""
    for path in _pydicom_files():
        with path.open("rb") as file:
            try:
                syntax = part10.read(file).transfer_syntax_uid
            except Exception:  # noqa: BLE001  some of these files are broken on purpose
                continue
            yield syntax, file.read(1500)


def make() -> dict[str, list[bytes]]:
    """The seeds of every target."""
    seeds: dict[str, list[bytes]] = {name: [] for name in TARGETS}
    streams = _streams()
    for stream in [*streams, *_answers()]:
        seeds["framing"].append(stream[: TARGETS["framing"].longest])
    for choice, stream in enumerate(streams):
        seeds["association"].append(bytes((choice % 5,)) + stream[: TARGETS["association"].longest - 1])
        seeds["receiver"].append(bytes((choice % 4,)) + stream[: TARGETS["receiver"].longest - 1])
        pdvs = [part for part in reference.read_stream(stream, 1 << 24).read if isinstance(part, PDV)]
        seeds["command"] += [pdv.data for pdv in pdvs if pdv.is_command][:4]
        shown = b"".join(_as_message(pdv) for pdv in pdvs[:6])
        seeds["message"].append(shown[: TARGETS["message"].longest])
    for syntax, head in _data_sets():
        choice = headers.SYNTAXES.index(syntax) if syntax in headers.SYNTAXES else 4
        title = headers.TITLE_BIT if b"\x40\x00\x43\xa0" in head else 0
        seeds["header"].append(bytes((choice | title,)) + head)
    for path in _pydicom_files():
        seeds["file"].append(path.read_bytes()[: TARGETS["file"].longest])
        seeds["names"].append(_as_values(path))
    hostile = (word for word in words.WORDS if len(word) > 2)
    seeds["names"] += [b"\x1f\0" + naming.BETWEEN.join((b"1.2.3", b"ISO_IR 192", word, word)) for word in hostile]
    seeds["ini"] = [f"{block}\n".encode() for block in config.sample().split("\n\n")] + [
        b"AE= X\nnum_threads=\nSRsub= 1\n"
    ]
    beyond = ((key, number) for key, limits in settings.LIMITS.items() for number in (limits[0], limits[1] + 1))
    seeds["ini"] += [f"{key}= {number}\n".encode() for key, number in beyond]
    seeds["profile"] = [_profile_sample().encode()]
    seeds["log"] = [b"STORESCU", "Müller^Jörg".encode(), b'a "b" = c\\\n']
    seeds["large"] = [_stretched(choice, data) for choice, data in _UNITS]
    seeds["data-set"] = [bytes(range(start, start + 60)) for start in range(0, 180, 30)]
    return seeds


# What is repeated for each check of targets/large.py: as many small parts as possible
_UNITS = (
    (0, b"\x04\0\0\0\0\x06\0\0\0\x02\x01\x00"),  # a P-DATA-TF with an empty PDV
    (1, b"\0\x01\0\0\0\0\x44" + bytes(68) + large.BETWEEN + b"\x01\0\0\0"),
    (2, b"\0\0\0\x01\x02\0\0\0\1\0"),
    (3, b"\x01\x01a"),
    (4, b"\0\x08\0\x01\x00SQ\0\0\xff\xff\xff\xff"),
    (4, b"\0\x08\0\x16\0UT\0\0\xf3\xff\x03\0" + large.BETWEEN + b"1"),  # a UID up to the end
    (5, bytes(128) + b"DICM" + large.BETWEEN + b"\x02\0\x02\0UI\0\0"),
    (6, b"\x1f\0" + b"1.2.3\n\n" + b"ISO 2022 IR 87\n\n" + large.BETWEEN + b"\x1b$B\x1b(B"),
    (7, b"localAE= a" + large.BETWEEN + b" "),
    (8, b"[[TransferSyntaxes]]\n" + large.BETWEEN + b"[A]\n"),
    (9, large.BETWEEN + b'\\"\n'),
)


def _stretched(choice: int, data: bytes) -> bytes:
    before, sign, unit = data.rpartition(large.BETWEEN)
    return bytes((choice,)) + (before if sign else b"") + large.BETWEEN + unit + large.BETWEEN + b"z"


def _as_message(pdv: PDV) -> bytes:
    data = pdv.data[:250]
    return bytes((pdv.is_command | pdv.is_last << 1, len(data))) + data


def _as_values(path: Path) -> bytes:
    with warnings.catch_warnings(action="ignore"):
        found = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    values = []
    for tag in _VALUE_TAGS:
        element = found.get_item(tag)
        values.append(element.value if element is not None and isinstance(element.value, bytes) else b"")
    uid = str(found.get("SOPInstanceUID", "1.2.3")).encode()
    return b"\x1f\0" + naming.BETWEEN.join([uid, *values])


def main() -> int:
    for name, inputs in make().items():
        longest = TARGETS[name].longest
        corpus.keep((data for data in inputs if data and len(data) <= longest), corpus.SEEDS / f"{name}.zip")
        print(f"{name:12} {len(set(inputs)):4} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
