"""The recipe of docs/tls.md is what an administrator types: it is typed here, and does what it says."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore.tls import faults
from tests.test_tls_wired import CT_SMALL
from tests.tls_support import Secured, receiving
from tools.programs import find_program

PAGE = (Path(__file__).parent.parent / "docs" / "tls.md").read_text(encoding="utf-8")


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    with receiving(tmp_path) as receiver:
        yield receiver


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?s)\n```{language}\n(.*?)```\n", PAGE)


def typed(command: str, secured: Secured) -> subprocess.CompletedProcess[str]:
    """Run what stands in the page, with the address of this receiver in place of the page's."""
    here = command.replace("dcmstore.hospital.example 2762", f"127.0.0.1 {secured.tls_port}")
    return subprocess.run(["sh", "-ec", here], cwd=secured.running.folder, capture_output=True, text=True, timeout=120)


def keys_of(ini: str) -> dict[str, object]:
    pairs = (line.split("= ", 1) for line in ini.splitlines())
    return {key.replace("-", "_"): value for key, value in pairs if key != "tls-port"}


@pytest.mark.interop("openssl", "storescu")
def test_the_recipe_works_as_it_stands(secured: Secured) -> None:
    authority, server, sender, send, revoke = blocks("sh")
    for path in secured.running.folder.glob("*.pem"):
        path.unlink()
    for command in (authority, server, sender):
        done = typed(command, secured)
        assert done.returncode == 0, done.stderr
    shutil.copy(CT_SMALL, secured.running.folder / "CT_small.dcm")
    first_ini, second_ini = map(keys_of, blocks("ini"))
    secured.start(**first_ini)
    done = typed(send, secured)
    assert done.returncode == 0, done.stdout + done.stderr

    assert typed(revoke, secured).returncode == 0
    secured.configure(**second_ini)
    secured.running.reload()
    assert typed(send, secured).returncode != 0

    (failed,) = secured.logged_after_stop("tls.failed")
    assert "the sender's certificate is revoked in tls-crl" in failed
    (accepted,) = secured.running.logged("association.accepted")
    (documented,) = re.findall(r"(?m)^INFO association\.accepted peer=\S+ (.*)$", PAGE)
    assert without_version(accepted).endswith(without_version(documented))
    assert not secured.running.logged("config.warning")


def without_version(line: str) -> str:
    return re.sub(r"OFFIS_DCMTK_\d+", "OFFIS_DCMTK", line)


@pytest.mark.interop("openssl", "echoscu")
def test_a_sender_without_a_certificate_is_tried_as_the_page_says(secured: Secured) -> None:
    (command,) = re.findall(r"`(echoscu [^`]*)`", PAGE)
    secured.start(tls_client="none", tls_ca="")
    assert typed(command, secured).returncode == 0


@pytest.mark.interop("openssl")
def test_files_of_other_kinds_are_converted_as_the_page_says(secured: Secured) -> None:
    folder = secured.running.folder
    secured.hospital.file("hospital.pem", secured.hospital.authority.revocation_list())
    openssl = find_program("openssl")
    assert openssl is not None
    prepare = (
        "x509 -in server.pem -outform der -out server.cer",
        "crl -in hospital.pem -outform der -out hospital.crl",
        "pkey -in server.key -aes256 -passout pass:x -out locked.key",
        "pkcs12 -export -in server.pem -inkey server.key -passout pass:x -out server.pfx",
        "crl2pkcs7 -nocrl -certfile ca.pem -outform der -out chain.p7b",
    )
    for words in prepare:
        subprocess.run([openssl, *words.split()], cwd=folder, check=True, capture_output=True)
    commands = re.findall(r"(?m)^\| [^|]*\| `(openssl [^`]*)`", PAGE)
    assert len(commands) == len(prepare)
    for command in commands:
        has_passphrase = "locked.key" in command or "server.pfx" in command
        done = typed(command + " -passin pass:x" * has_passphrase, secured)
        assert done.returncode == 0, (command, done.stderr)
        if "pkcs12" in command:
            secured.hospital.context(certificate=folder / "server.pem", key=None)
    secured.hospital.context(crl=folder / "crl.pem", key=folder / "server.key")


def test_the_page_lists_reasons_that_the_log_gives() -> None:
    table = PAGE.partition("| reason begins with |")[2].partition("\n\n")[0]
    documented = re.findall(r"(?m)^\| `([^`]+)` ", table)
    told = [*faults._VERIFY.values(), *faults._REASONS.values(), faults._CLOSED, faults.of_first_byte(b"\x01")]
    told += ["artim-timeout ran out"]
    assert len(documented) > 10
    for beginning in documented:
        assert any(reason.startswith(beginning) for reason in told), beginning
