"""Run directories: where a run writes, and which is the newest.

outputs/SCRIPT/NAME/TIMESTAMP/         a single run
outputs/SCRIPT/NAME/TIMESTAMP/JOB/     a job of a sweep, which sweep.json beside it describes
outputs/SCRIPT/NAME/TIMESTAMP/JOB.1/   what a first attempt at that job left, unless it goes on
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
CONFIG, ARTIFACT, SWEEP = "config.yaml", "artifact", "sweep.json"
ERROR = "error.txt"  # why a job of a sweep failed
MANIFEST = "manifest.json"
# What a training and an evaluation write last.
RESULTS = METRICS, SUMMARY = "metrics.json", "summary.json"
# What a run goes on from: a training from its last epoch, one of experts from what was finished, a
# benchmark from what was measured.
LAST_CHECKPOINT, FINISHED, MEASURED = RESUMABLE = (
    Path("checkpoints/last.ckpt"),
    Path("finished"),
    Path("measured.jsonl"),
)

MAX_CONFIG_BYTES, MAX_BRACKETS = 256 * 1024, 1000  # a training's has 2 kB and a few
SHOWN = 5  # settings that an error names

# How torchrun, SLURM, LSF and Lightning's own launcher number processes.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@dataclass(frozen=True)
class Sweep:
    """Describe a sweep, written into its directory before its first job.

    Args:
        config_name: of the script's configuration, such as `train`.
        overrides: as given on the command line, with the values of all jobs.
        varied: keys of the settings that differ between jobs.
        launching: settings of Hydra itself, such as `hydra/launcher=joblib`.
        jobs: the varied settings of every job, by its number; none where a sweeper chooses them as
            it goes.
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
            EennError: it is not one.
            OSError: the file cannot be read.
        """
        try:
            return from_json(cls, json.loads((directory / SWEEP).read_text(encoding="utf-8")))
        except ValueError as error:
            raise EennError(
                f"{directory / SWEEP} does not describe a sweep: {error}; start a new sweep"
            ) from None

    def write(self, directory: Path) -> None:
        """Write the description into the directory of a sweep, unless it is there already.

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
        """Give the command that completes the sweep in a directory."""
        known = self.config_name in CONFIGURED
        return f"{command_of(self.config_name) if known else 'PROGRAM'} resume={directory}"


def is_first_process() -> bool:
    """Whether this is the one process of a run that writes."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)


def run_directory(
    script: str, name: str, resume: str | None = None, progress: str = str(LAST_CHECKPOINT)
) -> str:
    """A new directory for a run, or the one of the run to go on with.

    Args:
        resume: a run directory, `latest` for the newest unfinished run, or None. The jobs of a
            sweep do not count: they go on with their sweep.
        progress: what a run that can go on has in its directory.

    Raises:
        EennError: there is no such run, or it has not come that far.
    """
    if resume is None:
        timestamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S.%f")[:-3]
        # Hydra takes a name such as 2021 for a number; this is the first to see it.
        return str(OUTPUTS / script / str(name) / timestamp)
    if resume == "latest":
        unfinished = unfinished_runs(script, Path(progress))
        if not unfinished:
            raise EennError(
                f"resume=latest: no unfinished run with {progress} under {OUTPUTS / script}; "
                f"start one with `{_COMMANDS[script]}`; a sweep goes on with "
                "resume=SWEEP_DIR"
            )
        return str(unfinished[-1])
    if not (Path(resume) / progress).exists():
        way = goes_on_by(Path(resume)) or (
            "allowed are latest or the directory of a run that finished an epoch, or one expert, "
            "or measured anything; or of a sweep, with its sweep.json"
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


def goes_on(directory: Path) -> bool:
    """Whether a run that was cut short left enough to go on from."""
    return (directory / CONFIG).exists() and any((directory / one).exists() for one in RESUMABLE)


def set_aside(directory: Path, log: str) -> Path | None:
    """Clear a job's directory of what an attempt left that was cut short and cannot go on.

    Args:
        log: name of the file that this attempt writes already.

    Returns:
        The directory beside it where all of it lies now; None where there was nothing but
        settings and an error.
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
    """Remove the directory of a run that ended before it wrote more than its settings.

    Args:
        log: name of its log, which has to be empty.
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
    """Check that going on with the run in a directory is meant.

    Args:
        given: settings that were given beside `resume`.

    Raises:
        EennError: there are some, though the run has its own, or the run is finished.
    """
    if not is_first_process():
        return
    if given:
        shown = " ".join(given[:SHOWN]) + (" ..." if len(given) > SHOWN else "")
        raise EennError(f"resume keeps the run's own settings; leave out {shown}")
    if is_finished(directory):
        raise EennError(f"resume={directory}: the run is finished; start a new one")


def read_config(file: Path) -> JsonObject:
    """Read the configuration of a run as plain values, whoever wrote it.

    Raises:
        EennError: it is not a small YAML file of settings by name.
        OSError: the file cannot be read.
    """
    # Imported here, as a device has no PyYAML.
    import yaml

    with file.open("rb") as opened:
        text = opened.read(MAX_CONFIG_BYTES + 1)
    try:
        # An alias stands for as much as it likes, and may lie inside itself; the time for brackets
        # grows with the square of their depth.
        is_plain = (
            len(text) <= MAX_CONFIG_BYTES
            and text.count(b"[") + text.count(b"{") <= MAX_BRACKETS
            and not any(
                isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)
            )
        )
        content = yaml.safe_load(text) if is_plain else None
        # YAML knows dates and bytes, too, which no setting is.
        json.dumps(content)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise EennError(f"{file} is not the configuration of a run; copy it again, or train anew")
    return content


def with_file(root: Path, *files: Path) -> list[Path]:
    """The directories under `root` that hold one of `files`, the one with the newest last."""
    found = [
        (path.stat().st_mtime, path.parents[len(file.parts) - 1])
        for file in files
        for path in root.glob(f"**/{file}")
    ]
    return [directory for _, directory in sorted(found)]


def unfinished_runs(script: str, progress: Path = LAST_CHECKPOINT) -> list[Path]:
    """List single runs of a script that could go on, or are running, the newest last."""
    return [
        run
        for run in with_file(OUTPUTS / script, progress)
        if not is_finished(run) and not (run.parent / SWEEP).exists()
    ]


def find_artifact(given: str) -> Path:
    """The directory of an artifact: `latest` for the newest that a training run wrote, or a path.

    A run's own directory stands for its artifact.

    Raises:
        EennError: there is none.
    """
    if given == "latest":
        found = with_file(OUTPUTS / "train", Path(ARTIFACT) / MANIFEST)
        if not found:
            raise EennError(
                f"artifact=latest: none under {OUTPUTS / 'train'}; train one with `{TRAIN.command}`"
            )
        return found[-1] / ARTIFACT
    path = Path(given)
    return path / ARTIFACT if (path / ARTIFACT / MANIFEST).exists() else path


def is_finished(directory: Path) -> bool:
    """Whether a run wrote its results."""
    return any((directory / name).exists() for name in RESULTS)


# The programs whose runs can go on, by the names of their folders in outputs/.
_COMMANDS = {"train": TRAIN.command, "offload": BENCH.command}


def goes_on_by(run: Path) -> str | None:
    """Say how an unfinished run goes on; None where it has nothing to go on from."""
    for progress, command in (
        (LAST_CHECKPOINT, TRAIN.command),
        (FINISHED, command_of("train_experts")),
        (MEASURED, BENCH.command),
    ):
        if (run / progress).exists():
            return f"it goes on with `{command} resume={run}`"
    return None
