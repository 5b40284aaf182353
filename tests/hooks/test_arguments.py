"""Values of senders in arguments: never more than a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore.hooks import arguments, masking, values
from dcmstore.hooks.arguments import CommandLine
from dcmstore.jobs.work import JobFailed
from tests.hooks.support import FACTS


def _filled(line: str, **changed: str) -> list[str]:
    return CommandLine.parse("tool " + line).arguments({**FACTS, **changed})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tool a  b\tc", ["tool", "a", "b", "c"]),
        ('"C:\\Program Files\\x.exe" -d C:\\out\\', ["C:\\Program Files\\x.exe", "-d", "C:\\out\\"]),
        ('tool --name="a b"c ""', ["tool", "--name=a bc", ""]),
        ("tool $HOME `x` a;b 'c d'", ["tool", "$HOME", "`x`", "a;b", "'c", "d'"]),
    ],
)
def test_a_line_is_split_at_blanks_and_quotes_hold_together(line: str, words: list[str]) -> None:
    assert list(CommandLine.parse(line).words) == words


@pytest.mark.parametrize("value", ['a b "c" d', "$(reboot)", "; rm x", "{path}", "a'b", "%PATH%"])
def test_a_value_stays_one_argument_whatever_it_holds(value: str) -> None:
    assert _filled("{patient_name} -x --name={patient_name}", patient_name=value) == [value, "-x", f"--name={value}"]


@given(st.text())
def test_no_value_makes_more_arguments_or_an_option(value: str) -> None:
    try:
        first, second = _filled("{patient_name} x{patient_id}", patient_name=value, patient_id=value)
    except JobFailed:
        return
    assert not first.startswith(("-", "+", "@"))
    assert "\0" not in first + second and "\n" not in first + second


@pytest.mark.parametrize("value", ["-rf", "--output=x", "+sd", "@file", "\x01-rf"])
def test_a_value_that_looks_like_an_option_is_refused_for_good(value: str) -> None:
    with pytest.raises(JobFailed, match="a program may take for an option") as caught:
        _filled("{patient_id}", patient_id=value)
    assert caught.value.is_final
    assert value not in str(caught.value)


@pytest.mark.parametrize("value", ["../../etc/passwd", "..", "/etc/passwd", "a/../../b", "\\\\host\\share", "..\\x"])
@pytest.mark.parametrize("word", ["{patient_id}", "of={patient_id}", "--name={patient_id}"])
def test_a_value_that_leads_out_of_a_folder_is_refused_for_good(word: str, value: str) -> None:
    with pytest.raises(JobFailed, match="leads out of its folder") as caught:
        _filled(word, patient_id=value)
    assert caught.value.is_final
    assert value not in str(caught.value)


def test_two_values_together_do_not_lead_out_either() -> None:
    with pytest.raises(JobFailed, match="leads out of its folder"):
        _filled("{study_id}{patient_id}", study_id=".", patient_id="./x")


@pytest.mark.parametrize("value", ["T1/T2", "CT\\MR", "1..2", "Doe^Jane"])
def test_slashes_in_a_text_are_no_harm(value: str) -> None:
    assert _filled("{patient_id}", patient_id=value) == [value]


def test_behind_other_text_a_value_may_begin_as_it_likes() -> None:
    assert _filled("--id={patient_id} n{instance_number}", patient_id="-5", instance_number="-1") == ["--id=-5", "n-1"]


def test_a_value_without_anything_in_front_is_refused_also_behind_an_empty_one() -> None:
    with pytest.raises(JobFailed):
        _filled("{study_id}{patient_id}", study_id="", patient_id="-x")


def test_within_a_path_a_value_is_a_name() -> None:
    assert _filled("/out/{patient_id}/{modality}") == ["/out/4711/MR"]
    (path,) = _filled("/out/{patient_id}/x", patient_id="../../etc")
    assert path.startswith("/out/_._.._etc~") and path.endswith("/x")
    assert _filled("{folder}\\{study_id}", study_id="") == [f"{FACTS['folder']}\\unknown"]


def test_paths_are_put_in_to_the_letter() -> None:
    assert _filled("{path}", path="/data/a\u2028b/1.dcm") == ["/data/a\u2028b/1.dcm"]


def test_control_characters_are_left_out() -> None:
    assert _filled("n={patient_name}", patient_name="a\0b\r\nc\x1b[2Jd\ud800\x85") == ["n=abc[2Jd"]


def test_a_placeholder_that_is_not_known_ends_the_job() -> None:
    with pytest.raises(JobFailed, match="nearest known one is") as caught:
        _filled("{patientid}")
    assert caught.value.is_final


def test_the_environment_has_every_fact() -> None:
    environment = values.environment({**FACTS, "patient_name": "a\nb"})
    assert environment["DCMSTORE_PATIENT_ID"] == "4711"
    assert environment["DCMSTORE_PATIENT_NAME"] == "ab"
    assert environment["DCMSTORE_SIZE"] == "1234"
    assert environment["DCMSTORE_INSTANCES"] == ""
    assert {f"DCMSTORE_{name.upper()}" for name in FACTS} <= set(environment)


# --- what only a shell could do ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "signs"),
    [
        ("tool {path} | cat > /tmp/x", ["|"]),
        ("tool {path} || other", ["||"]),
        ("cd /x && tool {path}", ["&&"]),
        ("tool {path} > /tmp/x", [">"]),
        ("tool {path} >>/tmp/x", [">>"]),
        ("tool {path} 2>&1", ["2>"]),
        ("tool < {path}", ["<"]),
        ("tool {path} &", ["&"]),
        ("cd /x; tool {path}", [";"]),
        ("tool `date`", ["`"]),
        ("tool $(date)", ["$("]),
        ("tool $HOME/x ${path} ~/x", ["$HOME", "${", "~/"]),
    ],
)
def test_a_sign_for_a_shell_is_told_with_what_to_write_in_place_of_it(line: str, signs: list[str]) -> None:
    told = list(arguments.shell_signs(line))
    assert [text.split("`")[1] or "`" for text in told] == signs
    assert all(" is for a shell, and there is none: " in text and "; allowed " in text for text in told)


@pytest.mark.parametrize("line", ["tool 'a b'", "tool '{path}'", "tool --name='x'", "'/a b/tool' x", "tool -o'a b'"])
def test_single_quotes_are_told(line: str) -> None:
    (told,) = arguments.shell_signs(line)
    assert told.startswith("single quotes hold nothing together")
    assert "allowed are double quotes" in told


@pytest.mark.parametrize(
    "line",
    [
        "sh -c \"cat < x | y > z; echo $HOME 'a b' && `date`\"",
        'find {folder} -exec tool {} ";"',
        "curl http://host/?a=1&b=2 O'Brien a;b 100$ x~y %j_%s *.dcm #1 !x",
        "tool --sep=| --fields=a|b",
        "ssh nas cp {path} /in && touch '/in/ok'",
        "cmd /c copy {path} D:\\x > NUL",
        "C:\\Windows\\System32\\PowerShell.exe -Command & {path}",
    ],
)
def test_what_a_program_is_to_get_or_reads_as_a_shell_does_is_left_alone(line: str) -> None:
    assert list(arguments.shell_signs(line)) == []


# --- batch files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["x.bat", "C:\\x\\Y.CMD", "x.bat.", "x.cmd ."])
def test_batch_files_are_known_by_their_names(program: str) -> None:
    assert arguments.is_batch_file(program)
    assert not arguments.is_batch_file(program.replace(".", "_"))


@pytest.mark.parametrize("value", ['a"&calc', "a&b", "%PATH%", "a^b", "a|b", "a,b", "a=b", "a!b", "a;b", "a<b", "a>b"])
def test_a_batch_file_gets_no_value_that_cmd_could_read_as_a_command(value: str) -> None:
    line = CommandLine.parse("x.bat {path} --name={patient_name}")
    filled = line.arguments({**FACTS, "patient_name": value})
    with pytest.raises(JobFailed, match="could take for a command") as caught:
        arguments.require_safe_for_batch(line, filled)
    assert caught.value.is_final
    assert arguments.safe_for_batch({"A": value, "B": "C:\\x y\\1.2 (2).dcm"}) == {"A": "", "B": "C:\\x y\\1.2 (2).dcm"}


def test_a_batch_file_gets_what_the_ini_says_and_what_is_harmless() -> None:
    line = CommandLine.parse("x.bat a&b=c {path} {patient_id}")
    arguments.require_safe_for_batch(line, line.arguments({**FACTS, "path": "C:\\d\\1.2.3 (2).dcm"}))


# --- masking -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Converted /data/images/4711/7/3/1.2.3.4.dcm", "Converted /data/images/*/7/3/1.2.3.4.dcm"),
        ("wrote DOE_Jane_19700101.nii", "wrote *_*_*.nii"),
        ("147110 does not count", "147110 does not count"),
        ("Doe^Jane (4711)", "* (*)"),
    ],
)
def test_what_a_program_says_is_told_without_the_patient(text: str, expected: str) -> None:
    assert masking.masked(text, FACTS) == expected


def test_a_folder_that_is_named_otherwise_than_the_patient_is_masked_too() -> None:
    facts = {**FACTS, "patient_id": "A/B", "folder": "/data/images/A_B~998d3ed8/7"}
    assert masking.masked("/data/images/A_B~998d3ed8/7/x", facts) == "/data/images/*/7/x"


def test_without_anything_known_of_the_patient_nothing_is_masked() -> None:
    for facts in ({"event": "stored"}, {"event": "stored", "root": "/data/images", "folder": "/a/b"}):
        assert masking.masked("/a b", facts) == "/a b"
