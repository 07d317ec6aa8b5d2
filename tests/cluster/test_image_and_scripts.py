"""The image, the Slurm script, the runtime environment, what a job uploads, and what all files must agree on."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from ray.runtime_env import RuntimeEnv

from tests.small import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
FILES = {str(path.relative_to(CLUSTER)): path.read_text() for path in sorted(CLUSTER.rglob("*")) if path.is_file()}
DOCKERFILE = FILES["Dockerfile"].replace("\\\n", " ")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
SHEBANG = "#!/usr/bin/env bash\n"


def _instructions(word: str) -> list[str]:
    return re.findall(rf"^{word} (.*)$", DOCKERFILE, flags=re.MULTILINE)


def test_that_every_file_of_the_folder_is_here() -> None:
    assert len(FILES) == 13
    assert {"README.md", "aws.yaml", "gcp.yaml", "slurm.sh", "runtime_env.yaml", "Dockerfile"} <= FILES.keys()


# ---- the image


def test_that_the_image_copies_what_is_there() -> None:
    sources = [source for line in _instructions("COPY") for source in line.split()[1:-1]]
    assert sources == ["pyproject.toml", "setup.py", "README.md", "LICENSE", "raydistill", "tune_configs"]
    for source in sources:
        assert (REPOSITORY / source).exists()
        assert f"\n!{source}\n" in FILES["Dockerfile.dockerignore"], "the context holds it"
    assert FILES["Dockerfile.dockerignore"].splitlines()[1] == "*"


def test_that_the_image_installs_as_the_readme_says() -> None:
    (readme_line,) = re.findall(r"^(python3 -m venv .*) && python -m raydistill", _text("README.md"), re.MULTILINE)
    assert _instructions("RUN")[-1] == readme_line.replace("pip install", "pip install --no-cache-dir")
    (folder,) = _instructions("WORKDIR")
    assert f"ENV PATH={folder}/.venv/bin:$PATH" in DOCKERFILE
    assert f"'PATH={folder}/.venv/bin:$PATH' > /etc/profile.d/" in DOCKERFILE  # a login shell forgets the one above


def test_that_the_image_is_not_roots() -> None:
    assert _instructions("USER") == ["ray"]
    assert DOCKERFILE.index("USER ray") < DOCKERFILE.index("COPY")
    assert "useradd --create-home --uid 1000" in DOCKERFILE  # whom pods and mounts name
    (folder,) = _instructions("WORKDIR")
    assert f"install --directory --owner=ray --group=ray {folder} " in DOCKERFILE  # WORKDIR alone would make it root's


def test_that_the_base_image_has_a_python_that_the_project_takes() -> None:
    (base,) = _instructions("FROM")
    version = re.fullmatch(r"python:(3\.\d+)-slim-bookworm", base)
    assert version is not None
    assert PROJECT["requires-python"] == f">={version[1]}"


# ---- what files must agree on


def _text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def test_that_all_files_mean_the_ray_that_is_pinned() -> None:
    (pin,) = re.findall(r"ray\[.*\]==(\d+\.\d+)\.\*", "\n".join(PROJECT["dependencies"]))
    said = {name: set(re.findall(r"(?:\bRay |:ray|rayVersion: )(\d+\.\d+)", text)) for name, text in FILES.items()}
    assert sum(bool(versions) for versions in said.values()) >= 9
    assert {version for versions in said.values() for version in versions} == {pin}


def test_that_all_files_mean_the_same_image() -> None:
    images = {name: set(re.findall(r"[\w.]+/raydistill:[\w.]+", text)) for name, text in FILES.items()}
    assert sum(bool(found) for found in images.values()) >= 9
    assert {image for found in images.values() for image in found} == {"registry.example.com/raydistill:ray2.60"}


def test_that_pretrained_weights_lie_on_the_shared_folder_everywhere() -> None:
    homes = {name: re.findall(r"TORCH_HOME(?:=|: |, value: )([\w/]+)", text) for name, text in FILES.items()}
    assert sum(bool(found) for found in homes.values()) >= 6
    assert {home for found in homes.values() for home in found} == {"/mnt/shared/torch"}


@pytest.mark.parametrize("name", FILES)
def test_that_no_file_holds_a_secret(name: str) -> None:
    """No long random text, no key, and a token only ever as a path or a name."""
    text = FILES[name].replace("0" * 17, "")
    assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|password|RAY_AUTH_TOKEN\s*[=:]", text)
    long = [word for word in re.findall(r"[A-Za-z0-9+=_]{32,}", text) if re.search(r"\d", word)]
    assert long == []


# ---- what a job brings along


def test_that_the_runtime_environment_is_rays_and_installs_the_working_directory() -> None:
    content = yaml.safe_load(FILES["runtime_env.yaml"])
    environment = RuntimeEnv(**content)
    assert environment.pip_config()["packages"] == ["${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"]
    assert set(content) == {"pip", "env_vars"}


UPLOADED = {"README.md", "LICENSE", "pyproject.toml", "setup.py", "raydistill", "tune_configs", "cluster", ".rayignore"}


def test_that_a_job_uploads_the_project_and_no_results(tmp_path: Path) -> None:
    for source in UPLOADED:
        copy = shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copyfile
        (tmp_path / "clone").mkdir(exist_ok=True)
        copy(REPOSITORY / source, tmp_path / "clone" / source)
    left = ["runs/a/best.pt", ".venv/bin/python", ".git/config", "tests/test_a.py", "scratch/b", "cluster/my-aws.yaml"]
    left += ["raydistill/__pycache__/x.pyc", ".mypy_cache/x", "raydistill.egg-info/x"]
    for file in left:
        (tmp_path / "clone" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clone" / file).write_text("large")
    clone, package = str(tmp_path / "clone"), tmp_path / "package.zip"
    excludes = get_runtime_env_default_excludes()
    create_package(clone, package, False, include_parent_dir=False, excludes=excludes)
    packed = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert {"pyproject.toml", "raydistill/data/build.py", "tune_configs/quickstart.yaml"} <= packed
    assert packed & set(left) == set()
    assert {name.partition("/")[0] for name in packed} == UPLOADED


# ---- Slurm


def test_that_shellcheck_has_nothing_to_say() -> None:
    scripts = [name for name, text in FILES.items() if text.startswith("#!")]
    assert scripts == ["slurm.sh"]
    assert FILES["slurm.sh"].startswith(SHEBANG)
    assert (CLUSTER / "slurm.sh").stat().st_mode & stat.S_IXUSR
    shellcheck = Path(sys.executable).with_name("shellcheck")
    checked = subprocess.run([shellcheck, CLUSTER / "slurm.sh"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


_PROGRAMS = {
    "scontrol": "printf 'node1\\nnode2\\nnode3\\n'",
    "srun": 'while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && export NODE="${1#*=}"; shift; done; exec "$@"',
    "hostname": "echo 192.0.2.1 192.0.2.2",
    "ray": """
        echo "$NODE ray $*" >> "$LOG"
        [[ $1 == health-check ]] && exit "${HEALTH:-0}"
        [[ $1 == start ]] && { trap 'echo "$NODE ended" >> "$LOG"; exit 0' TERM; while :; do sleep 0.05; done; }
        exit 0""",
    "work": 'echo "$NODE work $* at $RAY_ADDRESS, $RAY_AUTH_MODE" >> "$LOG"; sleep 0.3; exit 7',
}


def _sbatch(tmp_path: Path, *command: str, **environment: str) -> tuple[int, str, list[str]]:
    """Run the script on three made-up nodes, and return its code, what it says, and what ran where."""
    (tmp_path / "bin").mkdir()
    for name, text in _PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"{SHEBANG}{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin" / "activate").touch()
    log = tmp_path / "log"
    slurm = {"SLURM_JOB_ID": "1234567", "SLURM_JOB_NODELIST": "node[1-3]", "SLURM_CPUS_PER_TASK": "8"}
    ours = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(log), "RAYDISTILL_VENV": str(tmp_path)}
    script = subprocess.run(
        ["bash", CLUSTER / "slurm.sh", *command],
        env={**slurm, **ours, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return script.returncode, script.stderr, log.read_text().splitlines() if log.exists() else []


def test_that_the_slurm_job_runs_the_command_on_the_head_of_all_its_nodes(tmp_path: Path) -> None:
    code, said, ran = _sbatch(tmp_path, "work", "a b", "c")
    assert (code, said) == (7, ""), "the job ends as the command does"
    start = "ray start --block --disable-usage-stats --num-cpus=8"
    head = f"node1 {start} --head --node-ip-address=192.0.2.1 --port=24567 --dashboard-host=127.0.0.1"
    assert head in ran
    assert {f"{node} {start} --address=192.0.2.1:24567" for node in ("node2", "node3")} <= set(ran)
    assert "node1 work a b c at 192.0.2.1:24567, token" in ran
    assert ran.index(" ray get-auth-token --generate") < ran.index(head)
    assert {"node1 ended", "node2 ended", "node3 ended"} <= set(ran[-3:])


def test_that_a_head_that_never_answers_ends_the_slurm_job(tmp_path: Path) -> None:
    code, said, ran = _sbatch(tmp_path, "work", HEALTH="1", RAYDISTILL_HEAD_SECONDS="1")
    assert code == 1
    assert said == "slurm.sh: the head at 192.0.2.1:24567 must answer within 1 tries, got none; see the lines above\n"
    assert ran[-1] == "node1 ended"
    assert not [line for line in ran if "work" in line or "node2" in line]


def test_that_the_slurm_job_wants_a_command(tmp_path: Path) -> None:
    code, said, ran = _sbatch(tmp_path)
    assert (code, ran) == (2, [])
    assert said.startswith("slurm.sh: must be given a command, got none; ")
