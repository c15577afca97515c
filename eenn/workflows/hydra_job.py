"""Hydra's side of a script: a job in its directory, and sweeps, compared and completed.

Besides `eenn.workflows.scripts` and `eenn.workflows.resume_sweep` no module knows Hydra.
"""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import hydra.utils
from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override

from eenn.cli import error_line, one_line_errors, printable, quoted_for_hydra, setting_text
from eenn.errors import EennError
from eenn.exits.policies.registry import POLICIES
from eenn.files import Json, from_json, write_file
from eenn.models.own_code.trust import BUILD_KEYS, trusting, typed
from eenn.programs import CONF, Program
from eenn.run_directory import (
    CONFIG,
    ERROR,
    LATEST,
    SWEEP,
    Sweep,
    can_resume,
    claim,
    claim_resumed,
    find_artifact,
    is_finished,
    read_config,
    remove_empty,
    run_directory,
    set_aside,
)
from eenn.workflows.check import checked, keys_of
from eenn.workflows.interrupted import interruptible
from eenn.workflows.resume_sweep import completing, typed_again
from eenn.workflows.run import Job

T = TypeVar("T")

POLICY_FILES = CONF / "policy"

OmegaConf.register_new_resolver("run_directory", run_directory, use_cache=True, replace=True)


class CompareRuns(Callback):
    """Records a sweep before its jobs, and compares the jobs when it ends.

    Every launcher does this, as Hydra calls it in the process that started the sweep.
    """

    # Directory of the sweep that this process runs now; Hydra has no hook for an interrupted one.
    running: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        hydra = config.hydra
        params = hydra.sweeper.get("params") or {}
        composed = [f"{key}={value}" for key, value in params.items()]
        parsed = OverridesParser.create().parse_overrides([*composed, *hydra.overrides.task])
        varied = dict.fromkeys(one.key_or_group for one in parsed if one.is_sweep_override())
        without = any(one.key_or_group in ("artifacts", "field") for one in parsed)
        if config.get("artifact") == LATEST and "artifact" not in varied and not without:
            # Otherwise a training that ends amid the sweep would part it in two.
            with flag_override(config, "readonly", False):
                hydra.overrides.task.append(
                    quoted_for_hydra("artifact", str(find_artifact(LATEST)))
                )
        is_basic = hydra.sweeper._target_.endswith(f".{BasicSweeper.__name__}")
        sweep = Sweep(
            hydra.job.config_name,
            tuple(hydra.overrides.task),
            tuple(varied),
            tuple(one for one in hydra.overrides.hydra if not one.startswith(_OF_THE_SWEEP)),
            _jobs(parsed) if is_basic else (),
        )
        # Hydra would only warn of another error, and run the jobs.
        with one_line_errors():
            _check_different(sweep.jobs)
            sweep.write(Path(hydra.sweep.dir))
        CompareRuns.running = Path(hydra.sweep.dir)

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        CompareRuns.running = None
        _compare(Path(config.hydra.sweep.dir))


# Settings that Hydra adds to its own for every sweep.
_OF_THE_SWEEP = ("hydra.sweep.dir=", "hydra.mode=")


def _jobs(parsed: Sequence[Override]) -> tuple[dict[str, str], ...]:
    """Set out the varied settings of every job, in the order of Hydra's own sweeper."""
    names = {one.get_key_element(): one.key_or_group for one in parsed if one.is_sweep_override()}
    (batch,) = BasicSweeper.split_arguments(list(parsed), None)
    pairs = [[one.partition("=")[::2] for one in job] for job in batch]
    return tuple({names[key]: value for key, value in job if key in names} for job in pairs)


def _check_different(jobs: Sequence[Mapping[str, str]]) -> None:
    """Check that no two jobs of a sweep are the same.

    Raises:
        EennError: two jobs have the same settings, so that one would tell nothing new.
    """
    parse, seen = OverridesParser.create().parse_override, set[str]()
    for job in jobs:
        settings = {key: repr(parse(f"{key}={value}").value()) for key, value in job.items()}
        if str(settings) in seen:
            shown = " ".join(f"{key}={value}" for key, value in job.items())
            raise EennError(f"two jobs with {shown}: allowed is one; leave out one of the values")
        seen.add(str(settings))


def _compare(sweep: Path) -> None:
    """Compare the jobs of a sweep; end the process with an error if one has no result."""
    # Imported here because drawing takes a second, which no job should wait for.
    from eenn.reports.sweep import compare

    shown, unfinished = compare(sweep)
    print(f"\n{shown}\n")
    if unfinished:
        raise SystemExit("\n".join(f"error: {line}" for line in unfinished))


def _callback(config: DictConfig) -> CompareRuns:
    if dict(config) != {"_target_": f"{CompareRuns.__module__}.{CompareRuns.__name__}"}:
        raise EennError(
            f"hydra.callbacks: {dict(config)}: allowed is the one of conf/job.yaml; leave it out"
        )
    return CompareRuns()


# Hydra makes the callbacks of a configuration before its job begins, and would call any function
# but a short list of harmful ones. It takes sweepers and launchers from plugins alone.
hydra.utils.instantiate = _callback


def run_script(main: Callable[[], None], program: Program) -> None:
    """Run a program's `main`, or complete a sweep: `resume=SWEEP_DIR` stands for its command line.

    An interrupted sweep ends with a line that says how to go on.
    """
    with one_line_errors(), trusting(typed(sys.argv[1:])):
        sys.argv[1:] = completing(sys.argv[1:], program)
        try:
            main()
        except (KeyboardInterrupt, SystemExit):
            if CompareRuns.running is None:
                raise
            print(printable(_cut_short(CompareRuns.running)), file=sys.stderr)
            raise SystemExit(130) from None
        except Exception:
            # A bug in a job: its traceback follows, and the others are compared before.
            if CompareRuns.running is not None:
                with suppress(SystemExit):
                    _compare(CompareRuns.running)
            raise
        finally:
            CompareRuns.running = None


def _cut_short(directory: Path) -> str:
    """Say which jobs an interrupted sweep has finished, and how to go on."""
    sweep = Sweep.read(directory)
    finished = sorted(
        int(job.name) for job in directory.iterdir() if job.name.isdigit() and is_finished(job)
    )
    of_all = f" of {len(sweep.jobs)}" if sweep.jobs else ""
    named = f" ({', '.join(map(str, finished))})" if finished else ""
    command = " ".join(
        [sweep.command(directory), *map(shlex.quote, typed_again(directory / SWEEP, sweep))]
    )
    return f"interrupted: {len(finished)}{of_all} jobs are finished{named}; go on with `{command}`"


def run_job(
    config: DictConfig,
    kind: type[T],
    work: Callable[[Job[T]], None],
    completed: Callable[[T], Mapping[str, Json]] = lambda _: {},
) -> None:
    """Do the work of this Hydra job in its directory; a user's mistake ends it with one line.

    A sweep's job that is finished is kept. A resumed job, also one of a sweep, has the settings,
    overrides and group of its run.

    Args:
        kind: the type that the settings are checked against.
        completed: values that config.yaml has besides, or instead of, the settings as composed.
    """
    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode is RunMode.MULTIRUN
    directory = Path(hydra_config.runtime.output_dir)
    if sweeping and is_finished(directory):
        print(f"job {hydra_config.job.num}: kept, it is finished")
        return
    name = f"{hydra_config.job.num} {list(hydra_config.overrides.task)}" if sweeping else None
    with one_line_errors(name), _ending_well(directory, f"{hydra_config.job.name}.log", sweeping):
        job = _claimed(config, directory, sweeping, kind, completed)
        with interruptible(directory):
            work(job)


@contextmanager
def _ending_well(directory: Path, log: str, sweeping: bool) -> Iterator[None]:
    """Record the reason of a failure in a sweep's job, and remove a run that did nothing."""
    try:
        yield
    except BaseException as error:
        if not sweeping:
            remove_empty(directory, log)
        elif isinstance(error, Exception) and directory.is_dir():
            said = error_line(error) or f"{type(error).__name__}: {error}"
            write_file(directory / ERROR, f"{said}\n")
        raise


def _claimed(
    config: DictConfig,
    directory: Path,
    sweeping: bool,
    kind: type[T],
    completed: Callable[[T], Mapping[str, Json]],
) -> Job[T]:
    """Claim the directory of a job, and build the job; see `run_job`."""
    hydra_config = HydraConfig.get()
    if config.get("resume") is not None:
        claim_resumed(directory, _given_beside_resume(config, hydra_config.job.config_name))
        recorded: Any = read_config(directory / CONFIG)
    elif sweeping and can_resume(directory):
        print(f"job {hydra_config.job.num}: going on in {directory}")
        (directory / ERROR).unlink(missing_ok=True)
        recorded = read_config(directory / CONFIG)
    else:
        composed: Any = OmegaConf.to_container(config, resolve=True)
        recorded = {
            **composed,
            **completed(checked(kind, composed)),
            "overrides": list(hydra_config.overrides.task),
            "group": directory.parent.name if sweeping else None,
            "varied": {},
        }
        if sweeping:
            varied = Sweep.read(directory.parent).varied
            recorded["varied"] = {key: _value(key, config) for key in varied}
            if aside := set_aside(directory, f"{hydra_config.job.name}.log"):
                print(f"job {hydra_config.job.num}: a first attempt could not go on: {aside}")
        claim(directory, OmegaConf.to_yaml(recorded))
    own = {key: recorded[key] for key in keys_of(kind) if key in recorded}
    settings = checked(kind, own)
    try:
        beside = from_json(_Beside, recorded)
    except ValueError as error:
        raise EennError(f"{directory / CONFIG}: {error}; start a new run") from error
    return Job(settings, directory, beside.group, beside.overrides, recorded, beside.varied)


@dataclass(frozen=True)
class _Beside:
    """The content of config.yaml beside the settings; see `Job`."""

    group: str | None = None
    overrides: tuple[str, ...] = ()
    varied: dict[str, str] = field(default_factory=dict)


def offer_policies() -> None:
    """Offer policies without a file in conf/policy to `policy=`, with their default settings."""
    for name, policy in POLICIES.items():
        if not (POLICY_FILES / f"{name}.yaml").exists():
            settings = {f.name: f.default for f in fields(policy) if f.default is not MISSING}
            # Without a value here, a knob takes the grid of its name.
            knob = {policy.knob.name: None} if policy.knob else {}
            node = {"name": name, **settings, **knob}
            ConfigStore.instance().store(group="policy", name=name, node=node)


def policy_settings(name: str) -> dict[str, object]:
    """Read the settings of a compared policy from conf/policy/NAME.yaml, or return none without it.

    Raises:
        EennError: no policy has that name.
    """
    if name not in POLICIES:
        raise EennError(f"compare={name}: allowed are {', '.join(sorted(POLICIES))}")
    file = POLICY_FILES / f"{name}.yaml"
    if not file.exists():
        return {}
    settings: Any = OmegaConf.to_container(OmegaConf.load(file))
    del settings["name"]
    return dict(settings)


offer_policies()


def _value(key: str, config: DictConfig) -> str:
    """Write a setting of this job as users do; a group as its file's name."""
    choices = HydraConfig.get().runtime.choices
    found: Any = choices[key] if key in choices else OmegaConf.select(config, key)
    if isinstance(found, (DictConfig, ListConfig)):
        found = OmegaConf.to_container(found, resolve=True)
    return setting_text(found)


def _given_beside_resume(config: DictConfig, name: str | None) -> list[str]:
    """List the settings that differ from the defaults, as users write them."""
    plain, given = _flat(compose(name)), _flat(config)
    changed = {key for key in given.keys() | plain.keys() if given.get(key) != plain.get(key)}
    return [
        f"{key}={setting_text(given[key])}" if key in given else f"~{key}"
        for key in sorted(changed - {"resume", *BUILD_KEYS})
    ]


def _flat(config: DictConfig) -> dict[str, Any]:
    """List values by dotted key, interpolations as written."""

    def walk(node: Any, at: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict) and node:
            for name, value in node.items():
                yield from walk(value, f"{at}.{name}" if at else name)
        else:
            yield at, node

    return dict(walk(OmegaConf.to_container(config), ""))
