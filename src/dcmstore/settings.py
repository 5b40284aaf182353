"""key -> default, what is allowed, and the sentence that explains it: the table of all settings of DcmStore.ini.

Each field of Settings carries its key. config.py reads an ini by this table and writes the sample from it, and the
tests hold the documentation to it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dcmstore import values
from dcmstore.audit.syslog import DESTINATION_ALLOWED, THIS_SYSTEM, Destination, destination
from dcmstore.forwarding.peers import FORWARD_ALLOWED, PEERS_ALLOWED, forward_line, peer_list
from dcmstore.hooks.lines import HOOK_ALLOWED, hook_line
from dcmstore.hooks.signing import SECRET_ALLOWED
from dcmstore.hosts import HOST_ALLOWED


@dataclass(frozen=True, slots=True)
class Spelling:
    """A name under which a key may stand in the ini, and what its value may be there.

    One that `is_line` may stand several times, and its value is all that stands behind the equal sign; the setting is
    a tuple of what `parse` returns.
    """

    name: str
    parse: Callable[[str], Any]
    allowed: str
    is_line: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the ini: how it is spelt, what it does, and how the original spells it where that differs.

    A new ini has the default, or `in_new_ini` where an old one has to go on as it did.
    """

    spelling: Spelling
    about: str
    original: Spelling | None = None
    in_new_ini: object = None

    @property
    def name(self) -> str:
        return self.spelling.name

    def spellings(self) -> Iterator[Spelling]:
        yield self.spelling
        if self.original is not None:
            yield self.original


def _key(
    name: str,
    default: object,
    parse: Callable[[str], Any],
    allowed: str,
    about: str,
    original: Spelling | None = None,
    in_new_ini: object = None,
) -> Any:
    return field(default=default, metadata={"key": Key(Spelling(name, parse, allowed), about, original, in_new_ini)})


def _lines(name: str, parse: Callable[[str], str], allowed: str, about: str) -> Any:
    """A key that may stand several times."""
    return field(default=(), metadata={"key": Key(Spelling(name, parse, allowed, is_line=True), about)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Folders are absolute once `read` has returned them; times are in seconds."""

    local_ae: str = _key(
        "localAE", "DCMSTORE", values.ae_title, values.AE_TITLE_ALLOWED,
        "AE title of this receiver, as agreed with the PACS administrator.",
        Spelling("AE", values.ae_title, values.AE_TITLE_ALLOWED),
    )  # fmt: skip
    port: int = _key(
        "port", 11112, *values.number(0, 65535),
        "TCP port to listen on; 0 takes a free one. DICOM's own are 104 (Linux: root only) and 11112.",
    )  # fmt: skip
    bind: str = _key(
        "bind", "", values.text, "an address of this machine, or nothing for all of them",
        "Address to listen on. Empty: all addresses, IPv4 and IPv6.",
    )  # fmt: skip
    tls_port: int = _key(
        "tls-port", 0, *values.number(0, 65535),
        "A second TCP port, for DICOM over TLS; 0: none. DICOM's own is 2762. Needs tls-certificate.",
    )  # fmt: skip
    tls_only: bool = _key(
        "tls-only", False, *values.SWITCH, "1: listen on tls-port only.",
    )  # fmt: skip
    tls_certificate: Path | None = _key(
        "tls-certificate", None, values.optional_path, "a file in PEM, or nothing",
        "Certificate of this receiver, followed by those of the authorities between it and the one that senders trust.",
    )  # fmt: skip
    tls_key: Path | None = _key(
        "tls-key", None, values.optional_path, "a file in PEM without a passphrase, or nothing",
        "Its private key. Empty: it is in the file of the certificate.",
    )  # fmt: skip
    tls_client: str = _key(
        "tls-client", "none", *values.one_of("none", "optional", "required"),
        "Certificates of senders: none are asked for, optional ones are verified, or they are required.",
    )  # fmt: skip
    tls_ca: Path | None = _key(
        "tls-ca", None, values.optional_path, "a file in PEM, or nothing",
        "Certificates of the authorities that senders' certificates come from.",
    )  # fmt: skip
    tls_crl: Path | None = _key(
        "tls-crl", None, values.optional_path, "a file in PEM, or nothing",
        "Revocation lists of these authorities. Empty: revoked certificates are not noticed.",
    )  # fmt: skip
    tls_names: tuple[str, ...] = _key(
        "tls-names", (), values.tls_names, "pairs AE:name separated by commas, an AE title once, or nothing",
        "Binds an AE title to a sender's certificate, as CT1:ct1.hospital.example, by its common name or another "
        "name in it. Such an AE title is rejected with another certificate or none.",
    )  # fmt: skip
    tls_profile: str = _key(
        "tls-profile", "bcp195", *values.one_of("bcp195", "bcp195-modified"),
        "Security profile of PS3.15: bcp195 is B.12, bcp195-modified is B.13 with more cipher suites. Both take "
        "TLS 1.2 and 1.3.",
    )  # fmt: skip
    img_dir: Path = _key(
        "IMG-DIR", Path("received/images"), *values.FOLDER,
        "Root folder of images. A relative path starts at the folder of this file.",
    )  # fmt: skip
    rdsr_dir: Path = _key(
        "RDSR-DIR", Path("received/rdsr"), *values.FOLDER,
        "Root folder of radiation dose structured reports.",
    )  # fmt: skip
    sr_sub: bool | None = _key(
        "SRsub", None, values.optional_switch, "0, 1 or nothing",
        "Nothing: dose reports go into RDSR-DIR, other structured reports with the images. 0: every structured report "
        "goes into RDSR-DIR. 1: every structured report goes into the tree of the images, by its Series Number.",
    )  # fmt: skip
    logfile: bool = _key(
        "logfile", True, *values.SWITCH,
        "Write the log to DcmStore.log beside this file as well as to the console.",
    )  # fmt: skip
    folder_tree: bool = _key(
        "folder-tree", True, *values.SWITCH,
        "1: images go into a tree of folders below IMG-DIR. 0: all into IMG-DIR itself.",
    )  # fmt: skip
    order_by_patient_id: bool = _key(
        "order-by-patientID", True, *values.SWITCH,
        "The master folder is named by 1: Patient ID, 0: Patient's Name.",
    )  # fmt: skip
    order_by_study: bool = _key(
        "order-by-study", True, *values.SWITCH, "Below it, a folder by Study ID.",
    )  # fmt: skip
    order_by_series: bool = _key(
        "order-by-series", True, *values.SWITCH, "Below that, a folder by Series Number.",
    )  # fmt: skip
    image_name_index: bool = _key(
        "image-name-index", False, *values.SWITCH,
        "Name the files of the tree by modality and Instance Number, such as CT_00012, in place of the UID. "
        "Needs folder-tree, and switches order-by-study and order-by-series on.",
    )  # fmt: skip
    dicomdir: bool = _key(
        "dicomdir", False, *values.SWITCH,
        "Keep a DICOMDIR in each master folder. Needs folder-tree, and switches image-name-index, order-by-study and "
        "order-by-series on, for names on a DICOM medium have at most 8 characters.",
    )  # fmt: skip
    rdsr_tree: bool = _key(
        "RDSR-tree", False, *values.SWITCH,
        "1: dose reports get the same tree below RDSR-DIR. 0: all into RDSR-DIR itself.",
    )  # fmt: skip
    duplicates: str = _key(
        "duplicates", "both", *values.one_of("both", "replace", "keep"),
        "When a different object comes under a SOP Instance UID that its folder already has: both keeps the newcomer "
        "as `UID (2).dcm`, replace puts it in the old one's place, keep refuses it with status 0111. One that belongs "
        "into another folder, for its patient, study or series was corrected, is stored there; the old one stays.",
    )  # fmt: skip
    durable: bool = _key(
        "durable", True, *values.SWITCH,
        "1: success is answered when the object survives a power cut. 0: when the system has it; for speed tests.",
    )  # fmt: skip
    accept_unknown: bool = _key(
        "accept-unknown", True, *values.SWITCH,
        "Store SOP classes that the standard does not list, such as private ones.",
    )  # fmt: skip
    prefer_syntax: str = _key(
        "prefer-syntax", "uncompressed", *values.one_of("uncompressed", "sender", "compressed"),
        "Transfer syntax to take when a sender proposes several in one context: uncompressed and compressed take "
        "the first of that kind, sender takes the one it names first. Objects are stored as they are sent.",
    )  # fmt: skip
    profile: str = _key(
        "profile", "", values.text, "the name of a profile, or nothing for the first",
        "Which profile of PresContextCfg.ini to use. With that file beside this one, only the SOP classes and transfer "
        "syntaxes that the profile lists are accepted, and accept-unknown and prefer-syntax do not count.",
    )  # fmt: skip
    check_called_ae: bool = _key(
        "check-called-ae", False, *values.SWITCH, "Reject senders that call another AE title than localAE.",
    )  # fmt: skip
    allowed_ae: tuple[str, ...] = _key(
        "allowed-ae", (), values.ae_titles,
        "AE titles separated by commas, without wildcards, each alone or as AE@host, or nothing; a host is "
        f"{HOST_ALLOWED}",
        "AE titles that may send, as CT1, or as CT1@192.0.2.10 where it may do so from one host or network only. "
        "Empty: all.",
    )  # fmt: skip
    allowed_hosts: tuple[str, ...] = _key(
        "allowed-hosts", (), values.hosts, f"hosts separated by commas, or nothing; each is {HOST_ALLOWED}",
        "Hosts that may send. Empty: all.",
    )  # fmt: skip
    users: Path | None = _key(
        "users", None, values.optional_path, "a file that `dcmstore user add NAME` writes, or nothing",
        "File of users and their hashed passcodes. A sender that gives a user name with a passcode is then rejected "
        "unless both are right.",
    )  # fmt: skip
    require_user: bool = _key(
        "require-user", False, *values.SWITCH,
        "Reject senders that give no user name with a passcode. Needs users.",
    )  # fmt: skip
    max_associations: int = _key(
        "max-associations", 100, *values.number(1, 10_000),
        "Associations served at once. One more is rejected for the moment; senders try again.",
        Spelling("num_threads", values.num_threads, "a whole number from 0 to 10000, or nothing; 0 and nothing mean 5"),
    )  # fmt: skip
    workers: int = _key(
        "workers", 1, *values.number(1, 64),
        "Processes that receive. With 1, one does all. More make several senders at once faster, up to the processors "
        "of this machine; each takes 25 MB of memory. To change it, stop and start.",
    )  # fmt: skip
    max_associations_per_ae: int | None = _key(
        "max-associations-per-ae", None, *values.optional_number(1, 10_000),
        "Of these, how many one calling AE title may have. Empty: nine of ten, so that one sender can't keep the "
        "others out.",
    )  # fmt: skip
    max_associations_per_host: int | None = _key(
        "max-associations-per-host", None, *values.optional_number(1, 10_000),
        "How many one host may have. Empty: nine of ten of max-associations.",
    )  # fmt: skip
    max_object_size: int = _key(
        "max-object-size", 20_000, *values.number(1, 10_000_000),
        "Size in megabytes up to which an object is taken. A larger one is refused with status A700.",
    )  # fmt: skip
    min_free_space: int = _key(
        "min-free-space", 500, *values.number(0, 10_000_000),
        "Megabytes of a disk that images leave free: with less, they are refused with status A700 before their data is "
        "written. Dose reports may use what is left, so that they still land when the disk is full of images.",
    )  # fmt: skip
    permissions: values.Permissions = _key(
        "permissions", values.Permissions(0o640), values.permissions,
        "640 or another three digits, with or without a 0 in front: 6, then two of 0, 4, 6",
        "Permissions on Linux of files that are made: for the owner, the group and others. Folders are like them, and "
        "can be entered by who may read.",
    )  # fmt: skip
    max_pdu: int = _key(
        "max-pdu", 131_072, values.max_pdu, "0 (no limit) or 4096 to 16777216",
        "Longest PDU to ask senders for, in bytes.",
    )  # fmt: skip
    artim_timeout: int = _key(
        "artim-timeout", 30, *values.SECONDS,
        "Seconds that a sender has for its association request, and at the end to close the connection.",
    )  # fmt: skip
    idle_timeout: int = _key(
        "idle-timeout", 600, *values.SECONDS, "Seconds that an association may be open without a message.",
    )  # fmt: skip
    stall_timeout: int = _key(
        "stall-timeout", 60, *values.SECONDS, "Seconds without progress in the middle of a message.",
    )  # fmt: skip
    stop_timeout: int = _key(
        "stop-timeout", 20, *values.SECONDS, "Seconds that objects under way get to finish when the receiver stops.",
    )  # fmt: skip
    log_level: str = _key(
        "log-level", "info", *values.one_of("debug", "info", "warning", "error"),
        "How much to log. debug shows every PDU.",
    )  # fmt: skip
    log_patient: bool = _key(
        "log-patient", False, *values.SWITCH,
        "1: paths in the log show the patient's folder. 0: they show * in its place.",
    )  # fmt: skip
    audit: str = _key(
        "audit", "off", *values.one_of("off", "file", "syslog"),
        "Keep an audit trail in the format of DICOM: who sent what of which patient, and who was refused. file: in "
        "DcmStore.audit beside this file. syslog: to audit-syslog. It names patients.",
    )  # fmt: skip
    audit_syslog: Destination = _key(
        "audit-syslog", THIS_SYSTEM, destination, DESTINATION_ALLOWED,
        "Where audit= syslog sends to. Empty: the log of this system, which Windows does not have.",
    )  # fmt: skip
    split_collisions: bool = _key(
        "split-collisions", False, *values.SWITCH,
        "1: two studies that would share a folder, or two patients, are told apart: all but the first get a suffix "
        "such as 7~998d3ed8. A new ini has 1; without the line it is 0, as in the original.",
        in_new_ini=True,
    )  # fmt: skip
    index: bool = _key(
        "index", False, *values.SWITCH,
        "1: keep an index of what was received in DcmStore.index beside this file, for `dcmstore list` and `dcmstore "
        "verify`. It names patients. Needs SQLAlchemy.",
    )  # fmt: skip
    study_quiet: int = _key(
        "study-quiet", 60, *values.number(1, 86_400),
        "Seconds in which nothing comes of a study, and no association that brought some of it is open, until it is "
        "presumed complete. Needs index= 1.",
    )  # fmt: skip
    on_stored: tuple[str, ...] = _lines(
        "on-stored", hook_line, HOOK_ALLOWED,
        "What is done for each object that was stored, a line each: docs/hooks.md. Needs index= 1.",
    )  # fmt: skip
    on_study_complete: tuple[str, ...] = _lines(
        "on-study-complete", hook_line, HOOK_ALLOWED,
        "What is done for each study that is presumed complete, a line each. Needs index= 1.",
    )  # fmt: skip
    hook_timeout: int = _key(
        "hook-timeout", 300, *values.number(1, 86_400), "Seconds that a command of a hook may take.",
    )  # fmt: skip
    webhook_secret: Path | None = _key(
        "webhook-secret", None, values.optional_path, f"{SECRET_ALLOWED}, or nothing",
        "The key that webhooks are signed with.",
    )  # fmt: skip
    forward_to: tuple[str, ...] = _lines(
        "forward-to", forward_line, FORWARD_ALLOWED,
        "Whom objects are sent on to, a line each: docs/forwarding.md. Needs index= 1.",
    )  # fmt: skip
    peers: tuple[str, ...] = _key(
        "peers", (), peer_list, PEERS_ALLOWED,
        "Where other AEs listen, for forward-to and for reports of storage commitment.",
    )  # fmt: skip
    storage_commitment: str = _key(
        "storage-commitment", "off", *values.one_of("off", "same", "new"),
        "Whether senders may ask whether what they sent is safe, and where the report goes: on the same association "
        "while it is open, else on a new one to peers; or always on a new one. Needs index= 1; same needs workers= 1.",
    )  # fmt: skip
    logfile_size: int = _key(
        "logfile-size", 10, *values.number(1, 10_000), "Size in megabytes at which a log file is put aside.",
    )  # fmt: skip
    logfile_keep: int = _key(
        "logfile-keep", 9, *values.number(1, 1_000), "How many log files put aside are kept.",
    )  # fmt: skip


# Every field of Settings with its key, in the order of the sample
KEYS: dict[str, Key] = {item.name: item.metadata["key"] for item in fields(Settings)}


def shown(value: object, *, is_line: bool = False) -> str:
    """A value as the ini spells it; one of a key that may stand several times `is_line`."""
    if isinstance(value, bool):
        return str(int(value))
    if value is None:
        return ""
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    if is_line:  # all of it is the value
        return text
    # One pair of quotes is taken off when it is read, and so are blanks without it.
    is_quoted = (len(text) >= 2 and text[0] == text[-1] == '"') or text != text.strip()
    return f'"{text}"' if is_quoted else text
