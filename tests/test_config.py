"""DcmStore.ini: as the original has it, and every wrong value named."""

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore import config
from dcmstore.errors import ConfigurationError
from dcmstore.settings import KEYS, Settings, shown

# The originals' own files, in substance: keys, order, CRLF, trailing blanks. Their Windows paths stand apart.
RELEASE_1_1 = (
    "AE= MY_AETITLE \r\nport= 5600 \r\nRDSR-DIR= RDSR \r\nIMG-DIR= StoreImg \r\n"
    "logfile= 0 \r\nfolder-tree= 1 \r\norder-by-patientID= 0 \r\norder-by-study= 1 \r\norder-by-series= 1 \r\n"
    " \r\n# don't remove the equal sign '='  \r\n \r\n"
)
RELEASE_1_3 = RELEASE_1_1 + "num_threads= 6 \r\nimage-name-index= 1 \r\ndicomdir= 0 \r\n"
RELEASE_1_4 = RELEASE_1_3 + "SRsub= 1 \r\n"
RELEASES = {"1.1": RELEASE_1_1, "1.3": RELEASE_1_3, "1.4": RELEASE_1_4}


def read(tmp_path: Path, text: str | bytes) -> config.Configuration:
    path = tmp_path / "DcmStore.ini"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.read(path)


@pytest.mark.parametrize("text", RELEASES.values(), ids=RELEASES)
def test_a_file_of_the_original_works_unchanged(tmp_path: Path, text: str) -> None:
    read_back = read(tmp_path, text)
    settings = read_back.settings
    assert read_back.warnings == ()
    assert (settings.local_ae, settings.port, settings.logfile) == ("MY_AETITLE", 5600, False)
    assert (settings.folder_tree, settings.order_by_patient_id) == (True, False)
    assert (settings.order_by_study, settings.order_by_series, settings.rdsr_tree) == (True, True, False)
    assert (settings.img_dir, settings.rdsr_dir) == (tmp_path / "StoreImg", tmp_path / "RDSR")


def test_the_keys_of_1_3_and_1_4_are_understood(tmp_path: Path) -> None:
    settings = read(tmp_path, RELEASE_1_4).settings
    assert settings.max_associations == 6
    assert (settings.image_name_index, settings.dicomdir, settings.sr_sub) == (True, False, True)
    assert read(tmp_path, RELEASE_1_1).settings.sr_sub is None
    assert read(tmp_path, "SRsub= 0\n").settings.sr_sub is False


@pytest.mark.parametrize(("value", "associations"), [("", 5), ("0", 5), ("1", 1), ("16", 16), ("40", 40)])
def test_num_threads_is_the_number_of_associations(tmp_path: Path, value: str, associations: int) -> None:
    read_back = read(tmp_path, f"num_threads= {value}\n")
    assert read_back.settings.max_associations == associations
    assert read_back.source("max_associations") == "line 1, num_threads"


def test_dicomdir_switches_on_what_it_needs(tmp_path: Path) -> None:
    read_back = read(tmp_path, "dicomdir= 1\norder-by-study= 0\norder-by-series= 1\n")
    settings = read_back.settings
    assert (settings.order_by_study, settings.order_by_series, settings.image_name_index) == (True, True, True)
    assert read_back.source("order_by_study") == "switched on by dicomdir"
    assert read_back.source("image_name_index") == "switched on by dicomdir"
    assert read_back.source("order_by_series") == "line 3"


def test_image_name_index_switches_on_study_and_series(tmp_path: Path) -> None:
    read_back = read(tmp_path, "image-name-index= 1\norder-by-study= 0\norder-by-series= 0\n")
    assert (read_back.settings.order_by_study, read_back.settings.order_by_series) == (True, True)
    assert read_back.source("order_by_series") == "switched on by image-name-index"
    assert read_back.settings.dicomdir is False


@pytest.mark.skipif(os.name == "nt", reason="there these are folders")
@pytest.mark.parametrize("value", ["D:\\RDSR\\objects", "D:", "d:/RDSR", "\\\\server\\share\\RDSR"])
def test_a_folder_of_windows_is_refused_elsewhere(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"line 1: RDSR-DIR= .*: allowed is a folder of this system, not a"):
        read(tmp_path, f"RDSR-DIR= {value}\n")


def test_an_empty_file_gives_the_defaults_and_folders_beside_it(tmp_path: Path) -> None:
    settings = read(tmp_path, "").settings
    assert (settings.local_ae, settings.port) == ("DCMSTORE", 11112)
    assert settings.img_dir == tmp_path / "received" / "images"
    assert settings.rdsr_dir == tmp_path / "received" / "rdsr"


@pytest.mark.parametrize("spelling", ["localAE", "AE", "localae", "LOCALAE", "  LocalAe  "])
def test_both_names_of_the_ae_title_work_in_any_case(tmp_path: Path, spelling: str) -> None:
    assert read(tmp_path, f"{spelling}=X\n").settings.local_ae == "X"


@pytest.mark.parametrize(
    "raw",
    ["IMG-DIR= Größe".encode(), b"\xef\xbb\xbf" + "IMG-DIR= Größe".encode(), "IMG-DIR= Größe".encode("cp1252")],
    ids=["utf-8", "utf-8 with a byte order mark", "windows-1252"],
)
def test_every_encoding_that_notepad_writes_today_is_read(tmp_path: Path, raw: bytes) -> None:
    assert read(tmp_path, raw).settings.img_dir == tmp_path / "Größe"


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_utf_16_is_refused_with_what_to_do(tmp_path: Path, mark: bytes, encoding: str) -> None:
    with pytest.raises(ConfigurationError, match="line 1: is written in UTF-16; allowed is UTF-8: save it so"):
        read(tmp_path, mark + "port= 104".encode(encoding))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_read(tmp_path: Path, end: str) -> None:
    settings = read(tmp_path, f"port= 1{end}; a comment{end}# another{end}{end}AE= A{end}").settings
    assert (settings.port, settings.local_ae) == (1, "A")


def test_quotes_around_a_value_are_taken_off(tmp_path: Path) -> None:
    assert read(tmp_path, 'IMG-DIR= "a folder"\n').settings.img_dir == tmp_path / "a folder"


def test_an_unknown_key_is_a_warning_that_names_the_nearest(tmp_path: Path) -> None:
    (warning,) = read(tmp_path, "port= 1\norder-by-patient= 1\n").warnings
    assert "line 2: unknown key 'order-by-patient' is ignored" in warning
    assert warning.endswith("the nearest known one is order-by-patientID")


def test_an_unknown_key_that_resembles_none_gets_no_guess(tmp_path: Path) -> None:
    (warning,) = read(tmp_path, "foo= 1\n").warnings
    assert warning.endswith("line 1: unknown key 'foo' is ignored")


@pytest.mark.parametrize(
    ("images", "reports", "told"),
    [
        ("a", "b", []),
        ("a", "ab", []),
        ("a", "a", []),
        ("a", "a/b/c", ["RDSR-DIR lies in IMG-DIR, so what belongs into a folder 'b' there would lie in both"]),
        ("r/../x/i", "x", ["IMG-DIR lies in RDSR-DIR, so what belongs into a folder 'i' there would lie in both"]),
    ],
)
def test_a_root_folder_within_the_other_is_a_warning(
    tmp_path: Path, images: str, reports: str, told: list[str]
) -> None:
    ini = tmp_path / "DcmStore.ini"
    ini.write_text(f"IMG-DIR= {images}\nRDSR-DIR= {reports}\n")
    assert config.read(ini).warnings == tuple(f"{ini}: {text}; give each a folder beside the other" for text in told)


@pytest.mark.parametrize("value", ["a", '"a"', '"on-study-complete= "', '"a b" "c d"', "a  b"])
def test_a_line_is_shown_as_it_is_read(tmp_path: Path, value: str) -> None:
    ini = tmp_path / "DcmStore.ini"
    ini.write_text(f"on-stored= {shown(value, is_line=True)}\n")
    assert config.read(ini).settings.on_stored == (value,)


@pytest.mark.parametrize("value", ["a", '"a"', "a ", " a"])
def test_a_path_is_shown_as_it_is_read(tmp_path: Path, value: str) -> None:
    ini = tmp_path / "DcmStore.ini"
    ini.write_text(f"users= {shown(value)}\n")
    assert config.read(ini).settings.users == tmp_path / value


def test_of_a_key_set_twice_the_last_counts_and_a_warning_says_so(tmp_path: Path) -> None:
    read_back = read(tmp_path, "port= 1\nport= 2\n")
    assert read_back.settings.port == 2
    assert read_back.warnings[0].endswith("line 2: port again; line 1 no longer counts")


def test_the_source_of_each_setting_is_known(tmp_path: Path) -> None:
    read_back = read(tmp_path, "# comment\n\nport= 1\n")
    assert (read_back.source("port"), read_back.source("local_ae")) == ("line 3", "default")


def test_each_value_of_a_key_that_stands_several_times_has_its_own_line(tmp_path: Path) -> None:
    read_back = read(tmp_path, "on-stored=\n\non-stored= a\nport= 1\non-stored= b\non-stored=\n")
    ini = tmp_path / "DcmStore.ini"
    assert list(read_back.each("on_stored")) == [
        ("a", f"{ini}, line 3: on-stored= 'a'"),
        ("b", f"{ini}, line 5: on-stored= 'b'"),
    ]
    assert [read_back.source("on_stored", index) for index in (0, 1)] == ["line 3", "line 5"]
    assert list(read_back.each("forward_to")) == []


def test_a_wrong_value_is_named_with_its_own_line_and_the_part_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, "forward-to= A@h:1\nforward-to= B@h:0\nforward-to= C@h:1\n")
    expected = "line 2: forward-to= 'B@h:0': the port of 'B@h:0' is '0'; allowed is a whole number from 1 to 65535"
    assert str(caught.value) == f"{tmp_path / 'DcmStore.ini'}, {expected}"


WRONG = [
    ("localAE", ""),
    ("localAE", "SEVENTEEN_LETTERS"),
    ("localAE", "Tür"),
    ("localAE", "A\\B"),
    ("AE", ""),
    ("num_threads", "-1"),
    ("num_threads", "many"),
    ("num_threads", "10001"),
    ("SRsub", "2"),
    ("SRsub", "on"),
    ("port", ""),
    ("port", "104a"),
    ("port", "-1"),
    ("port", "65536"),
    ("port", "1e3"),
    ("port", "٣"),
    ("IMG-DIR", ""),
    ("RDSR-DIR", '""'),
    ("duplicates", "none"),
    ("prefer-syntax", ""),
    ("allowed-ae", "A,,B"),
    ("allowed-ae", "SEVENTEEN_LETTERS"),
    ("allowed-ae", "CT1; CT2"),
    ("allowed-ae", "CT1;CT2"),
    ("allowed-ae", "*"),
    ("allowed-ae", "CT*"),
    ("allowed-ae", "CT?@192.0.2.1"),
    ("allowed-ae", "CT1@192.0.2.4-192.0.2.9"),
    ("allowed-hosts", "192.0.2.4-192.0.2.9"),
    ("allowed-hosts", "192.0.2.4-9"),
    ("allowed-hosts", "192.0.2.*"),
    ("allowed-hosts", "192.0.2.4; 192.0.2.5"),
    ("tls-names", "CT1:a;CT2:b"),
    ("peers", "PACS@h:99999"),
    ("forward-to", "[modality=CT;MR] PACS"),
    ("on-stored", "ftp://host/"),
    ("on-study-complete", "[] tool"),
    ("permissions", "0602"),
    ("permissions", "0662"),
    ("permissions", "0620"),
    ("max-associations", "0"),
    ("max-pdu", "100"),
    ("max-pdu", "16777217"),
    ("idle-timeout", "0"),
    ("idle-timeout", "1.5"),
    ("log-level", "loud"),
    *(
        (key.name, value)
        for _, key in KEYS.items()
        if key.spelling.allowed == "0 (off) or 1 (on)"
        for value in ("2", "", "yes", "01")
    ),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_refused_with_file_line_key_value_and_what_is_allowed(
    tmp_path: Path, key: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, f"# first\n{key}= {value}\n")
    message = str(caught.value)
    assert f"{tmp_path / 'DcmStore.ini'}, line 2: " in message
    assert f"{key}= " in message
    assert repr(value.strip('"')) in message
    assert "allowed is " in message
    assert "\n" not in message


def test_a_host_name_of_digits_and_hyphens_is_a_name(tmp_path: Path) -> None:
    names = ("10-0-0-5", "192-0-2-4.hospital.example", "ct-1")
    assert read(tmp_path, f"allowed-hosts= {', '.join(names)}\n").settings.allowed_hosts == names


def test_a_problem_that_names_a_key_gets_its_file_and_line(tmp_path: Path) -> None:
    read_back = read(tmp_path, "\nbind= 192.0.2.1\nAE= X\n")
    path = tmp_path / "DcmStore.ini"
    assert read_back.located("bind= '192.0.2.1': no") == f"{path}, line 2: bind= '192.0.2.1': no"
    assert read_back.located("localAE= X: no") == f"{path}, line 3, AE: localAE= X: no"
    assert read_back.located("port= 1: no") == f"{path}, default: port= 1: no"
    for text in (f"{path}, line 2: bind= x: no", "nothing that is a key", "x= 1: no"):
        assert read_back.located(text) == text
    with pytest.raises(ConfigurationError, match=r"DcmStore\.ini, line 2: bind= x: no"), read_back.locating():
        raise ConfigurationError("bind= x: no")


@pytest.mark.parametrize("key", ["localAE", "AE"])
def test_what_an_ae_title_may_be_names_the_backslash(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{key}= .*: allowed is 1 to 16 ASCII characters without a backslash"):
        read(tmp_path, f"{key}= A\\B\n")


def test_blanks_around_ae_titles_mean_nothing(tmp_path: Path) -> None:
    settings = read(tmp_path, 'localAE= " AB "\nallowed-ae= CT1 @ 10.0.0.1, MR 2\ntls-names= CT1 : ct1\n').settings
    assert settings.local_ae == "AB"
    assert settings.allowed_ae == ("CT1@10.0.0.1", "MR 2")


def test_quotes_that_belong_to_a_value_are_shown_so_that_they_are_read_again(tmp_path: Path) -> None:
    assert read(tmp_path, 'localAE= ""A""\n').settings.local_ae == '"A"'
    assert shown('"A"') == '""A""'


def test_an_ae_title_is_bound_to_one_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="allowed is pairs AE:name separated by commas, an AE title once"):
        read(tmp_path, "tls-names= CT1:a, CT1:b\n")


def test_every_setting_has_its_key() -> None:
    assert list(KEYS) == [item.name for item in fields(Settings)]
    names = [spelling.name.lower() for key in KEYS.values() for spelling in key.spellings()]
    assert len(names) == len(set(names))


def test_a_line_without_an_equal_sign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="line 1: 'port 104' has no '='"):
        read(tmp_path, "port 104\n")


def test_a_missing_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"can't be read: .*`dcmstore init DIR` makes one"):
        config.read(tmp_path / "none.ini")


def test_a_folder_in_place_of_a_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"can't be read: .*; name the file in that folder$"):
        config.read(tmp_path)


def test_a_file_that_nobody_lets_us_read_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(ConfigurationError, match="can't be read: Permission denied; let the user that runs dcmstore"):
        config.read(tmp_path / "DcmStore.ini")


@given(st.binary(max_size=300))
def test_any_bytes_give_settings_or_one_line(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("ini") / "DcmStore.ini"
    path.write_bytes(raw)
    try:
        assert isinstance(config.read(path).settings, Settings)
    except ConfigurationError as error:
        assert "\n" not in str(error)


def test_the_sample_sets_every_key_to_its_default_or_to_what_a_new_ini_has(tmp_path: Path) -> None:
    read_back = read(tmp_path, config.sample())
    assert set(read_back.lines) == {field.name for field in fields(Settings)}
    assert read_back.settings == replace(read(tmp_path, "").settings, split_collisions=True)


def test_the_sample_explains_every_key(tmp_path: Path) -> None:
    text = config.sample()
    for _, key in KEYS.items():
        block = next(block for block in text.split("\n\n") if f"\n{key.name}=" in block)
        explained = " ".join(line.removeprefix("# ") for line in block.splitlines() if line.startswith("#"))
        assert key.about in explained
        assert f"# Allowed: {key.spelling.allowed}.\n" in block


@pytest.mark.parametrize("comment", ["# DICOM's own", "; DICOM's own", "#"])
def test_a_comment_behind_a_value_is_left_out(tmp_path: Path, comment: str) -> None:
    assert read(tmp_path, f"port= 104   {comment}\n").settings.port == 104
    assert read(tmp_path, f"allowed-ae= {comment}\n").settings.allowed_ae == ()


def test_behind_a_folder_everything_belongs_to_its_name(tmp_path: Path) -> None:
    assert read(tmp_path, "IMG-DIR= images # 2\n").settings.img_dir == tmp_path / "images # 2"


BROKEN = ["", "abc", "2", "-1", "folder/below", "\\\\server\\share", "E:\\DCM"]
BROKEN += ["0x1", "1 2", "é", "\x00", "9" * 400, "=", "#"]


@pytest.mark.parametrize("value", [*BROKEN, None], ids=[*map(repr, BROKEN), "missing"])
@pytest.mark.parametrize("release", RELEASES)
def test_each_key_of_each_release_broken_in_turn_is_read_or_refused_in_one_line(
    tmp_path: Path, release: str, value: str | None
) -> None:
    lines = RELEASES[release].split("\r\n")
    for number, line in enumerate(lines):
        if "=" not in line or line.startswith("#"):
            continue
        key = line.partition("=")[0]
        broken = [*lines[:number], *([] if value is None else [f"{key}= {value}"]), *lines[number + 1 :]]
        try:
            assert isinstance(read(tmp_path, "\r\n".join(broken)).settings, Settings)
        except ConfigurationError as error:
            assert f"line {number + 1}: {key}= " in str(error)
            assert "allowed is " in str(error)
            assert "\n" not in str(error)
