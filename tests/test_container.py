"""The container files: what they say, and that it works with the real program. No engine is needed."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dcmstore import config
from dcmstore.hosting import stop_seconds
from dcmstore.settings import Settings

ROOT = Path(__file__).parent.parent
CONTAINER = ROOT / "packaging/container"


def instructions() -> list[tuple[str, str]]:
    """Instruction and argument, continued lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", (CONTAINER / "Containerfile").read_text())
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, argument.strip()) for name, _, argument in (line.partition(" ") for line in lines if line.strip())]


def of(name: str) -> list[str]:
    return [argument for instruction, argument in instructions() if instruction == name]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for argument in of("ENV") for pair in argument.split())


def test_the_base_is_pinned_by_a_tag() -> None:
    (base,) = of("ARG")
    assert re.fullmatch(r"BASE=docker\.io/library/python:3\.\d+-slim", base)
    assert all(argument.startswith("${BASE}") for argument in of("FROM"))


def test_it_runs_as_a_numbered_user_that_is_not_root() -> None:
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert f"chown -R {user} /config /data" in " ".join(of("RUN"))


def test_a_signal_reaches_the_receiver_itself() -> None:
    """The exec form: no shell between, which would not pass it on."""
    (entry,), (command,) = of("ENTRYPOINT"), of("CMD")
    assert [*json.loads(entry), *json.loads(command)] == ["dcmstore", "run", "--config", "/config/DcmStore.ini"]
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_the_files_that_it_copies_are_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [words[:-1] for words in map(str.split, of("COPY")) if not words[0].startswith("--from")]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_its_ini_is_the_sample_with_folders_of_the_volumes(tmp_path: Path) -> None:
    ini = tmp_path / "DcmStore.ini"
    ini.write_text(config.sample())
    edits = re.findall(r"-e '([^']+)'", " ".join(of("RUN")))
    subprocess.run(["sed", "-i", *(word for edit in edits for word in ("-e", edit)), str(ini)], check=True)
    configuration = config.read(ini)
    settings = configuration.settings
    assert (settings.img_dir, settings.rdsr_dir) == (Path("/data/images"), Path("/data/rdsr"))
    assert not settings.logfile
    assert configuration.warnings == ()
    assert json.loads(of("VOLUME")[0]) == ["/config", "/data"]


def test_the_health_check_calls_the_receiver_of_the_sample() -> None:
    defaults = Settings()
    assert environment()["HEALTH_PORT"] == str(defaults.port) == of("EXPOSE")[0]
    assert environment()["HEALTH_CALLED"] == defaults.local_ae


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    for name in ("images", "rdsr"):
        (tmp_path / name).mkdir()
    ini = tmp_path / "DcmStore.ini"
    ini.write_text("port= 0\nbind= 127.0.0.1\nIMG-DIR= images\nRDSR-DIR= rdsr\nlogfile= 0\ncheck-called-ae= 1\n")
    command = [sys.executable, "-m", "dcmstore", "run", "--config", str(ini)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_the_health_check_tells_a_receiver_that_answers_from_one_that_is_gone(
    receiver: subprocess.Popen[str],
) -> None:
    """The command of the image itself, in a shell as engines run it."""
    command = of("HEALTHCHECK")[0].partition(" CMD ")[2]
    assert receiver.stderr is not None
    match = re.search(r"receiver\.listening .*port=(\d+)", receiver.stderr.readline())
    assert match
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, **environment(), "PATH": path, "HEALTH_PORT": match[1]}
    assert subprocess.run(["sh", "-c", command], env=variables, capture_output=True, timeout=60).returncode == 0
    receiver.send_signal(signal.SIGTERM)
    receiver.communicate(timeout=60)
    assert subprocess.run(["sh", "-c", command], env=variables, capture_output=True, timeout=60).returncode == 1


def test_the_compose_file_gives_the_container_no_more_than_it_needs() -> None:
    compose = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    service = compose["services"]["dcmstore"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"] == f"{stop_seconds(Settings().stop_timeout):g}s"
    assert [mount.split(":")[1] for mount in service["volumes"]] == json.loads(of("VOLUME")[0])
    assert {mount.split(":")[0] for mount in service["volumes"]} == set(compose["volumes"])
    assert service["ports"] == [f"{of('EXPOSE')[0]}:{of('EXPOSE')[0]}"]
    build = service["build"]
    assert (CONTAINER / build["context"] / build["dockerfile"]).resolve() == CONTAINER / "Containerfile"
