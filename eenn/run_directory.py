"""Run directories: their layout, finding the newest one, and resuming a run.

outputs/SCRIPT/NAME/TIMESTAMP/         a single run
outputs/SCRIPT/NAME/TIMESTAMP/JOB/     a job of a sweep, which sweep.json beside it describes
outputs/SCRIPT/NAME/TIMESTAMP/JOB.1/   what a first attempt at that job left, unless the job resumes
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from eenn.errors import EennError
from eenn.files import JsonObject, from_json, write_file, write_json
from eenn.programs import BENCH, CONFIGURED, TRAIN, command_of

OUTPUTS = Path("outputs")
# In place of a path: the newest artifact, or the newest unfinished run.
LATEST = "latest"
CONFIG, ARTIFACT, SWEEP = "config.yaml", "artifact", "sweep.json"
ERROR = "error.txt"  # the error of a failed job of a sweep
MANIFEST = "manifest.json"
# The last file that a training and an evaluation write.
RESULTS = METRICS, SUMMARY = "metrics.json", "summary.json"
# The progress that a run resumes from: the last epoch of a training, the finished experts of a
# training of experts, the measurements of a benchmark.
LAST_CHECKPOINT, FINISHED, MEASURED = RESUMABLE = (
    Path("checkpoints/last.ckpt"),
    Path("finished"),
    Path("measured.jsonl"),
)

# The lines of a live edge about a stream, which cannot be resumed.
FIELD_LOG = "field.jsonl"

MAX_CONFIG_BYTES, MAX_BRACKETS = 256 * 1024, 1000  # a training's has 2 kB and a few brackets
MAX_SWEEP_BYTES = 16 * 1024 * 1024  # that of a thousand jobs has 100 kB
MAX_SHOWN = 5  # settings that an error names

# Variables by which torchrun, SLURM, LSF and Lightning's launcher number processes.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@dataclass(frozen=True)
class Sweep:
    """The description of a sweep, written into the sweep's directory before the first job.

    Args:
        config_name: of the script's configuration, such as `train`.
        overrides: as given on the command line, with the values of all jobs.
        varied: keys of the settings that differ between jobs.
        launching: settings of Hydra itself, such as `hydra/launcher=joblib`.
        jobs: the varied settings of every job, by job number; empty where a sweeper chooses them
            during the sweep.
    """

    config_name: str
    overrides: tuple[str, ...]
    varied: tuple[str, ...]
    launching: tuple[str, ...] = ()
    jobs: tuple[dict[str, str], ...] = ()

    @classmethod
    def read(cls, directory: Path) -> "Sweep":
        """Read the description of the sweep in a directory.

        Raises:
            EennError: the file does not describe a sweep.
            OSError: the file cannot be read.
        """
        with (directory / SWEEP).open("rb") as opened:
            text = opened.read(MAX_SWEEP_BYTES + 1)
        try:
            if len(text) > MAX_SWEEP_BYTES:
                raise ValueError(f"more than {MAX_SWEEP_BYTES} bytes")
            return from_json(cls, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise EennError(
                f"{directory / SWEEP} does not describe a sweep: {error}; start a new sweep"
            ) from None

    def write(self, directory: Path) -> None:
        """Write the description into the directory of a sweep that has none yet.

        Raises:
            EennError: the directory holds another sweep.
        """
        if (directory / SWEEP).exists():
            known = Sweep.read(directory)
            if (known.config_name, known.overrides) != (self.config_name, self.overrides):
                raise EennError(f"{directory} holds another sweep; choose another hydra.sweep.dir")
            return
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / SWEEP, asdict(self))

    def command(self, directory: Path) -> str:
        """Return the command that completes the sweep in a directory."""
        known = self.config_name in CONFIGURED
        return f"{command_of(self.config_name) if known else 'PROGRAM'} resume={directory}"


def is_first_process() -> bool:
    """Tell whether this process is the first of its run, the only one that writes files."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)


def run_directory(
    script: str, name: str, resume: str | None = None, progress: str = str(LAST_CHECKPOINT)
) -> str:
    """Name the directory of a new run, or of the run to resume.

    Args:
        resume: a run directory, `latest` for the newest unfinished run, or None. Jobs of a sweep do
            not count as `latest`: they resume with their sweep.
        progress: path in the directory of a run that can resume.

    Raises:
        EennError: the run does not exist, or has no `progress` yet.
    """
    if resume is None:
        timestamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S.%f")[:-3]
        # Hydra takes a name such as 2021 for a number; this is the first to see it.
        return str(OUTPUTS / script / str(name) / timestamp)
    if resume == LATEST:
        unfinished = unfinished_runs(script, Path(progress))
        if not unfinished:
            raise EennError(
                f"resume=latest: no unfinished run with {progress} under {OUTPUTS / script}; "
                f"start one with `{_COMMANDS[script]}`; a sweep goes on with "
                "resume=SWEEP_DIR"
            )
        return str(unfinished[-1])
    if not (Path(resume) / progress).exists():
        if (Path(resume) / FIELD_LOG).exists():
            raise EennError(
                f"resume={resume}: a stream cannot go on in its middle, as edge and guard have "
                "ended; start it again"
            )
        way = resume_hint(Path(resume)) or (
            "allowed are latest, the directory of a run that finished an epoch, an expert or a "
            "measurement, or the directory of a sweep with its sweep.json"
        )
        raise EennError(f"resume={resume} has no {progress}; {way}")
    return resume


def claim(directory: Path, config: str) -> None:
    """Write the configuration of a new run into its directory.

    Raises:
        EennError: the directory holds a run.
    """
    if not is_first_process():
        return
    kept = (*RESUMABLE, ARTIFACT, *RESULTS)
    if any((directory / name).exists() for name in kept):
        raise EennError(
            f"{directory} holds a run; go on with resume={directory}, or choose another"
        )
    write_file(directory / CONFIG, config)


def can_resume(directory: Path) -> bool:
    """Tell whether an interrupted run left progress that it can resume from."""
    return (directory / CONFIG).exists() and any((directory / one).exists() for one in RESUMABLE)


def set_aside(directory: Path, log: str) -> Path | None:
    """Clear a job's directory of the files of an interrupted attempt that cannot resume.

    Args:
        log: name of the log file that the new attempt already writes.

    Returns:
        The directory beside it that the files were moved to; None if there were only settings and
        an error, which are deleted.
    """
    if not is_first_process() or not directory.exists():
        return None
    left = [entry for entry in directory.iterdir() if entry.name != log]
    if {entry.name for entry in left} <= {CONFIG, ERROR}:
        for entry in left:
            entry.unlink()
        return None
    places = (directory.with_name(f"{directory.name}.{n}") for n in count(1))
    aside = next(place for place in places if not place.exists())
    aside.mkdir()
    for entry in left:
        entry.rename(aside / entry.name)
    return aside


def remove_empty(directory: Path, log: str) -> None:
    """Remove the directory of a run that wrote nothing but its settings.

    Args:
        log: name of the run's log, which has to be empty.
    """
    if not is_first_process() or not directory.exists():
        return
    left = list(directory.iterdir())
    is_empty = all(e.name == CONFIG or (e.name == log and not e.stat().st_size) for e in left)
    if is_empty and directory.resolve() != Path.cwd():
        for entry in left:
            entry.unlink()
        directory.rmdir()


def claim_resumed(directory: Path, given: Sequence[str]) -> None:
    """Check that the run in a directory may resume as asked.

    Args:
        given: settings that were given beside `resume`.

    Raises:
        EennError: settings are given although the run has its own, or the run is finished.
    """
    if not is_first_process():
        return
    if given:
        shown = " ".join(given[:MAX_SHOWN]) + (" ..." if len(given) > MAX_SHOWN else "")
        raise EennError(f"resume keeps the run's own settings; leave out {shown}")
    if is_finished(directory):
        raise EennError(f"resume={directory}: the run is finished; start a new one")


def read_config(file: Path) -> JsonObject:
    """Read the configuration of a run, which may come from a stranger, as plain values.

    Raises:
        EennError: the file is not a small YAML file of settings by name.
        OSError: the file cannot be read.
    """
    # Imported here, as a device has no PyYAML.
    import yaml

    with file.open("rb") as opened:
        text = opened.read(MAX_CONFIG_BYTES + 1)
    try:
        # An alias may stand for any amount of content, even for itself; the time for brackets grows
        # with the square of their depth.
        is_plain = (
            len(text) <= MAX_CONFIG_BYTES
            and text.count(b"[") + text.count(b"{") <= MAX_BRACKETS
            and not any(
                isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)
            )
        )
        content = yaml.safe_load(text) if is_plain else None
        # YAML also has dates and bytes, which are not allowed as settings.
        json.dumps(content)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise EennError(f"{file} is not the configuration of a run; copy it again, or train anew")
    return content


def directories_with(root: Path, *files: Path) -> list[Path]:
    """List the directories under `root` with one of `files`, that of the newest file last."""
    found = [
        (path.stat().st_mtime, path.parents[len(file.parts) - 1])
        for file in files
        for path in root.glob(f"**/{file}")
    ]
    return [directory for _, directory in sorted(found)]


def unfinished_runs(script: str, progress: Path = LAST_CHECKPOINT) -> list[Path]:
    """List single runs of a script that can resume or are running, the newest last."""
    return [
        run
        for run in directories_with(OUTPUTS / script, progress)
        if not is_finished(run) and not (run.parent / SWEEP).exists()
    ]


def find_artifact(given: str) -> Path:
    """Find the directory of an artifact by path, or `latest`, the newest that a training wrote.

    The directory of a run stands for the run's artifact.

    Raises:
        EennError: `latest` is given and no artifact was found.
    """
    if given == LATEST:
        found = directories_with(OUTPUTS / "train", Path(ARTIFACT) / MANIFEST)
        if not found:
            raise EennError(
                f"artifact=latest: no artifact under {OUTPUTS / 'train'}; train one with "
                f"`{TRAIN.command}`"
            )
        return found[-1] / ARTIFACT
    path = Path(given)
    return path / ARTIFACT if (path / ARTIFACT / MANIFEST).exists() else path


def is_finished(directory: Path) -> bool:
    """Tell whether a run has written its results."""
    return any((directory / name).exists() for name in RESULTS)


# The programs whose runs can go on, by the names of their folders in outputs/.
_COMMANDS = {"train": TRAIN.command, "offload": BENCH.command}


def resume_hint(run: Path) -> str | None:
    """Word the command that resumes an unfinished run; return None if it has no progress."""
    for progress, command in (
        (LAST_CHECKPOINT, TRAIN.command),
        (FINISHED, command_of("train_experts")),
        (MEASURED, BENCH.command),
    ):
        if (run / progress).exists():
            return f"it goes on with `{command} resume={run}`"
    return None
