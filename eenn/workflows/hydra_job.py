"""A Hydra job: its settings and directory, claimed, and the table at the end of a sweep.

Besides the scripts this is the only module that knows Hydra.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import hydra.utils
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from eenn.cli import one_line_errors, written
from eenn.errors import EennError
from eenn.exits.policies.registry import POLICIES
from eenn.files import Json
from eenn.reports.sweep import comparison
from eenn.run_directory import CONFIG, Sweep, claim, claim_resumed, read_config, run_directory
from eenn.workflows.check import checked, keys_of
from eenn.workflows.run import Job

T = TypeVar("T")
CONF = Path(__file__).parents[2] / "conf"

POLICY_FILES = CONF / "policy"

OmegaConf.register_new_resolver("run_directory", run_directory, use_cache=True, replace=True)


class CompareRuns(Callback):
    """Writes down a sweep before its jobs, and prints one table over them when it ends.

    That holds for every launcher, as Hydra calls this where the sweep was started.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        given: Any = OmegaConf.to_container(config.hydra.overrides.task)
        params = config.hydra.sweeper.get("params") or {}
        every = [*(f"{key}={value}" for key, value in params.items()), *given]
        parsed = OverridesParser.create().parse_overrides(every)
        varied = dict.fromkeys(one.key_or_group for one in parsed if one.is_sweep_override())
        sweep = Sweep(config.hydra.job.config_name, tuple(given), tuple(varied))
        with one_line_errors():
            sweep.write(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        jobs, unfinished = comparison(Path(config.hydra.sweep.dir))
        print(f"\n{config.hydra.sweep.dir}:\n\n{jobs}")
        if unfinished:
            raise SystemExit(f"error: jobs without a result: {', '.join(unfinished)}")


def _callback(config: DictConfig) -> CompareRuns:
    if dict(config) != {"_target_": f"{CompareRuns.__module__}.{CompareRuns.__name__}"}:
        raise EennError(
            f"hydra.callbacks: {dict(config)}: allowed is the one of conf/job.yaml; leave it out"
        )
    return CompareRuns()


# Hydra makes the callbacks of a configuration before its job begins, and would call anything but a
# short list of what it knows to be harmful. Sweepers and launchers it takes from plugins alone.
hydra.utils.instantiate = _callback


@contextmanager
def claimed_job(
    config: DictConfig,
    kind: type[T],
    completed: Callable[[T], Mapping[str, Json]] = lambda _: {},
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
            recorded: Any = read_config(directory / CONFIG)
        else:
            composed: Any = OmegaConf.to_container(config, resolve=True)
            varied = Sweep.read(directory.parent).varied if sweeping else []
            recorded = {
                **composed,
                **completed(checked(kind, composed)),
                "overrides": overrides,
                "group": directory.parent.name if sweeping else None,
                "varied": {key: _value(key, config) for key in varied},
            }
            claim(directory, OmegaConf.to_yaml(recorded))
        own = {key: recorded[key] for key in keys_of(kind) if key in recorded}
        settings = checked(kind, own)
        yield Job(
            settings, directory, recorded["group"], recorded["overrides"], recorded,
            recorded.get("varied", {}),
        )  # fmt: skip


def offer_policies() -> None:
    """Offer policies without a file in conf/policy to `policy=`, their settings as they come."""
    for name, policy in POLICIES.items():
        if not (POLICY_FILES / f"{name}.yaml").exists():
            settings = {f.name: f.default for f in fields(policy) if f.default is not MISSING}
            # Without a value here, a knob takes the grid of its name.
            knob = {policy.knob.name: None} if policy.knob else {}
            node = {"name": name, **settings, **knob}
            ConfigStore.instance().store(group="policy", name=name, node=node)


def policy_settings(name: str) -> dict[str, object]:
    """Give the settings of a policy that is compared, from conf/policy/NAME.yaml if there is one.

    Raises:
        EennError: there is no such policy.
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
    """Give a setting of this job as users write it; of a group that is the file's name."""
    choices = HydraConfig.get().runtime.choices
    found: Any = choices[key] if key in choices else OmegaConf.select(config, key)
    if isinstance(found, (DictConfig, ListConfig)):
        found = OmegaConf.to_container(found, resolve=True)
    return written(found)


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
