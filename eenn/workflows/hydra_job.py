"""A Hydra job: its settings and directory, claimed, and the table at the end of a sweep.

Besides the scripts this is the only module that knows Hydra.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from eenn.cli import one_line_errors, written
from eenn.errors import EennError
from eenn.reports.sweep import comparison
from eenn.run_directory import CONFIG, claim, claim_resumed, run_directory
from eenn.workflows.check import Arguments, checked, keys_of
from eenn.workflows.run import Job
from eenn.workflows.settings import MeasuringSettings, several

T = TypeVar("T")
CONF = Path(__file__).parents[2] / "conf"

OmegaConf.register_new_resolver("run_directory", run_directory, use_cache=True, replace=True)


class CompareRuns(Callback):
    """Prints one table over all jobs when a sweep ends, whichever launcher ran them."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        jobs, unfinished = comparison(Path(config.hydra.sweep.dir))
        print(f"\n{config.hydra.sweep.dir}:\n\n{jobs}")
        if unfinished:
            raise SystemExit(f"error: jobs without a result: {', '.join(unfinished)}")


@contextmanager
def claimed_job(
    config: DictConfig,
    kind: type[T],
    completed: Callable[[T], Mapping[str, Any]] = lambda _: {},
) -> Iterator[Job[T]]:
    """This Hydra job, its directory claimed; a user's mistake ends it with one line.

    A resumed job has the settings, overrides and group of its run.

    Args:
        kind: what the settings are checked against.
        completed: what config.yaml says besides, or instead of, the settings as composed.
    """
    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode is RunMode.MULTIRUN
    overrides = list(hydra_config.overrides.task)
    with one_line_errors(f"{hydra_config.job.num} {overrides}" if sweeping else None):
        directory = Path(hydra_config.runtime.output_dir)
        if config.get("resume") is not None:
            claim_resumed(directory, _given_beside_resume(config, hydra_config.job.config_name))
            recorded: Any = OmegaConf.to_container(OmegaConf.load(directory / CONFIG))
        else:
            composed: Any = OmegaConf.to_container(config, resolve=True)
            recorded = {
                **composed,
                **completed(checked(kind, composed)),
                "overrides": overrides,
                "group": directory.parent.name if sweeping else None,
            }
            claim(directory, OmegaConf.to_yaml(recorded))
        own = {key: recorded[key] for key in keys_of(kind) if key in recorded}
        settings = checked(kind, own)
        yield Job(settings, directory, recorded["group"], recorded["overrides"], recorded)


def opener(named: Arguments) -> Callable[..., Any]:
    """What a configuration names by its `_target_`, to be called with the rest of its arguments."""
    return partial(instantiate, dict(named))


def policies_of(settings: MeasuringSettings) -> dict[str, Arguments]:
    """The chosen policy and those it is compared with: their settings by name.

    Raises:
        EennError: the same policy twice, or one that conf/policy/ does not have.
    """
    chosen = dict(settings.policy)
    policies: dict[str, Arguments] = {chosen.pop("name"): chosen}
    for name in several(settings.compare):
        if name in policies:
            raise EennError(f"compare={name}: it is evaluated already; leave it out")
        file = CONF / "policy" / f"{name}.yaml"
        if not file.exists():
            allowed = ", ".join(sorted(other.stem for other in file.parent.glob("*.yaml")))
            raise EennError(f"compare={name}: allowed are {allowed}")
        own: Any = OmegaConf.to_container(OmegaConf.load(file))
        del own["name"]
        policies[name] = own
    return policies


def _given_beside_resume(config: DictConfig, name: str | None) -> list[str]:
    """The settings that differ from those without any override, as users write them."""
    plain, given = _flat(compose(name)), _flat(config)
    changed = {key for key in given.keys() | plain.keys() if given.get(key) != plain.get(key)}
    return [
        f"{key}={written(given[key])}" if key in given else f"~{key}"
        for key in sorted(changed - {"resume"})
    ]


def _flat(config: DictConfig) -> dict[str, Any]:
    """Values by dotted key, interpolations as they are."""

    def walk(node: Any, at: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict) and node:
            for name, value in node.items():
                yield from walk(value, f"{at}.{name}" if at else name)
        else:
            yield at, node

    return dict(walk(OmegaConf.to_container(config), ""))
