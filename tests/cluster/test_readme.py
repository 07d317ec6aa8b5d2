"""Every command of cluster/README.md: its program, its options as that program reads them, and the files it names."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli

from raydistill import train, tune
from raydistill.config.training import Scaling
from tests.small import REPOSITORY

README = (REPOSITORY / "cluster" / "README.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in README.split("\n## ")[1:]}
BLOCKS = {title: re.findall(r"```sh\n(.*?)```", part, flags=re.DOTALL) for title, part in SECTIONS.items()}
LINES = {title: "".join(blocks).splitlines() for title, blocks in BLOCKS.items() if blocks}
COMMANDS = [line for lines in LINES.values() for line in lines if not line.startswith("# ")]
WAYS = ("AWS", "Google Cloud", "Kubernetes", "Slurm", "A Ray cluster that is there already")
# Programs that are not here to ask: their commands are read by a person.
ELSEWHERE = {"aws", "gcloud", "helm", "kubectl", "docker", "squeue", "scancel", "ssh"}


def _words(command: str) -> list[str]:
    """Return a command's words without assignments before it; of an export, what ``$(...)`` runs, if anything."""
    words = shlex.split(re.sub(r"^export \w+=(?:\$\((.*)\)|\S+)$", r"\1", command))
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words


def _of(program: str) -> list[str]:
    return [command for command in COMMANDS if _words(command)[:1] == [program]]


def test_that_every_way_and_its_commands_are_read() -> None:
    assert list(LINES) == ["First: token and image", *WAYS]
    assert len(COMMANDS) > 50
    programs = {words[0] for words in map(_words, COMMANDS) if words}
    assert programs == ELSEWHERE | {"python3", "pip", "chmod", "sed", "sleep", "ray", "sbatch"}


@pytest.mark.parametrize("title", LINES)
def test_that_commands_are_numbered_from_one(title: str) -> None:
    numbers = [int(match[1]) for line in LINES[title] if (match := re.match(r"# (\d+)\. ", line))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert LINES[title][0].startswith("# 1. ")


def _parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Return a ray command's name and parameters, as Ray's own command line reads them."""
    command, names = cli, []
    rest = words[1:]
    while isinstance(command, click.Group):
        names.append(rest.pop(0))
        found = command.commands.get(names[-1])
        assert found is not None, f"ray {' '.join(names)}: no such command"
        command = found
    return " ".join(names), command.make_context(names[-1], rest).params


RAY = [command for command in COMMANDS if _words(command)[:1] == ["ray"]]


@pytest.mark.parametrize("command", RAY)
def test_that_ray_understands_the_command(command: str) -> None:
    name, parameters = _parsed(_words(command))
    if "cluster_config_file" in parameters:
        assert re.fullmatch(r"cluster/my-(aws|gcp)\.yaml", parameters["cluster_config_file"])
    if name == "job submit":
        assert parameters["address"] == "http://127.0.0.1:8265"
        assert parameters["working_dir"] == "."
        assert parameters["runtime_env"] is None or (REPOSITORY / parameters["runtime_env"]).is_file()
    if name == "start" and parameters["head"]:
        assert parameters["dashboard_host"] == "127.0.0.1"


def test_that_a_wrong_option_of_ray_would_be_found() -> None:
    with pytest.raises(click.NoSuchOption):
        _parsed(shlex.split("ray job submit --workingdir . -- python"))


def test_that_every_way_submits_uploads_and_takes_down_again() -> None:
    assert {_parsed(_words(command))[0] for command in RAY} == {
        *("get-auth-token", "up", "dashboard", "job submit", "rsync-down", "down", "start"),
    }


OURS = [
    *(_parsed(_words(command))[1]["entrypoint"] for command in RAY if " job submit " in command),
    *(_words(command)[_words(command).index("python") :] for command in _of("sbatch")),
]


@pytest.mark.parametrize("words", OURS, ids=lambda words: " ".join(words)[:60])
def test_that_the_submitted_command_is_one_of_ours_with_settings_that_exist(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    program, option, module, *arguments = words
    assert (program, option) == ("python", "-m")
    main, check = {
        "raydistill.tune": (tune.main, "--print-plan"),
        "raydistill.train": (train.main, "--print-config"),
    }[module]
    assert main([*arguments, check]) == 0
    assert arguments[arguments.index("--output") + 1].startswith(("/mnt/shared/", "$HOME/"))


def test_that_there_are_commands_of_ours() -> None:
    assert len(OURS) == 5


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_that_sed_fills_in_all_that_is_made_up(cloud: str, tmp_path: Path) -> None:
    """The command itself is run; what it leaves is a cluster file without an example in it."""
    (command,) = (command for command in _of("sed") if f"cluster/{cloud}.yaml" in command)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / f"{cloud}.yaml").write_text((REPOSITORY / "cluster" / f"{cloud}.yaml").read_text())
    mine = {"IMAGE": "my.registry/raydistill:7", "GROUP": "sg-1a", "MACHINE": "ami-2b", "PROJECT": "mine-3"}
    mine["DISK"] = {"aws": "fs-4d", "gcp": "10.0.0.5"}[cloud]
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", **mine}, check=True)
    text = (tmp_path / "cluster" / f"my-{cloud}.yaml").read_text()
    expected = {"aws": ("IMAGE", "GROUP", "MACHINE", "DISK"), "gcp": ("IMAGE", "PROJECT", "DISK")}[cloud]
    assert [name for name in expected if mine[name] not in text] == []
    assert not re.search(r"example|0{6}|192\.0\.2", text)
    validate_config(prepare_config(yaml.safe_load(text)))


@pytest.mark.parametrize("command", [command for command in _of("sed") if "kubectl" in command])
def test_that_sed_names_the_users_image_in_the_manifest(command: str) -> None:
    filled = subprocess.run(
        ["bash", "-c", command.removesuffix(" | kubectl apply --filename -")],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "IMAGE": "my.registry/raydistill:7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "image: my.registry/raydistill:7" in filled
    assert "example.com" not in filled


def test_that_what_the_commands_name_is_what_the_manifests_name() -> None:
    folder = REPOSITORY / "cluster" / "kuberay"
    manifests = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    names = {manifest["metadata"]["name"] for manifest in manifests}
    kubectl = "\n".join(LINES["Kubernetes"])
    named = re.findall(r"(?:rayjob/|raycluster/|pod/|job-name=|cp )(raydistill-[\w-]+)", kubectl)
    assert len(named) == 7
    assert set(named) <= names
    (service,) = re.findall(r"service/(raydistill-[\w-]+)-head-svc", kubectl)
    assert service in names
    secret = {
        manifest["spec"]["authOptions"]["secretName"] for manifest in manifests if "authOptions" in manifest["spec"]
    }
    assert set(re.findall(r"secret (?:generic )?(raydistill-[\w-]+)", kubectl)) == secret
    job = next(manifest for manifest in manifests if manifest["metadata"]["name"] == "raydistill-sweep-cpu")
    (report,) = re.findall(r"raydistill-shell:(\S+)/report", kubectl)
    assert f"--output {report}" in job["spec"]["entrypoint"]


def test_that_the_job_that_is_fetched_is_the_job_that_was_submitted() -> None:
    for title in ("AWS", "Google Cloud"):
        text = "\n".join(LINES[title])
        (output,) = re.findall(r"--output (/\S+)", text)
        (fetched,) = re.findall(r"ray rsync-down \S+ (\S+)/report/ ", text)
        assert fetched == output


def test_that_every_file_is_named_and_every_named_file_is_there() -> None:
    names = {str(path.relative_to(REPOSITORY / "cluster")) for path in (REPOSITORY / "cluster").rglob("*")}
    names = {name for name in names if "." in name or name == "Dockerfile"} - {"README.md", "Dockerfile.dockerignore"}
    table = "\n".join(line for line in README.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([\w./-]+)`", table)) == names
    for path in re.findall(r"\bcluster/(?!my-)[\w./-]+\w", "\n".join(COMMANDS)):
        assert (REPOSITORY / path).is_file(), path


def test_that_the_numbers_said_are_the_settings() -> None:
    clouds = [yaml.safe_load((REPOSITORY / "cluster" / f"{name}.yaml").read_text()) for name in ("aws", "gcp")]
    assert {f"`max_workers: {cloud['max_workers']}`" for cloud in clouds} <= set(re.findall(r"`[^`]*`", README))
    assert f"`scaling.max_failures` ({Scaling().max_failures})" in README
    from raydistill.on_ray import room

    assert f"{room._FOR_NODES_THAT_JOIN} s for nodes that join" in README
    assert f"{room._FOR_AN_AUTOSCALER} s once an autoscaler" in README
    assert f"--version {_kuberay_version()}" in README
    (minutes,) = re.findall(r"It takes (about \d+ minutes) on two CPU cores", (REPOSITORY / "README.md").read_text())
    assert f"The quickstart sweep takes {minutes} on two cores" in README


def _kuberay_version() -> str:
    """Return the release whose fields the manifests are checked against."""
    (version,) = re.findall(r"release (\d+\.\d+\.\d+)", (Path(__file__).parent / "kuberay_fields.py").read_text())
    return version


def test_that_costs_are_called_what_they_are_and_every_way_stops() -> None:
    assert "none of it measured" in SECTIONS["Costs"]
    for title in ("AWS", "Google Cloud", "Kubernetes", "Slurm"):
        assert re.search(r"^# \d+\. stop", "\n".join(LINES[title]), flags=re.MULTILINE), title


def test_that_the_readme_says_what_ray_exposes_and_never_opens_it() -> None:
    security = SECTIONS["Security"]
    for word in ("RAY_AUTH_MODE=token", "127.0.0.1", "8265", "6379", "CVE-2023-48022", "plain text", "port-forward"):
        assert word in security, word
    assert "0.0.0.0" not in "\n".join(COMMANDS)
    assert "RAY_AUTH_TOKEN" not in README
