"""A Hydra job: its settings and directory, claimed, and the table at the end of a sweep."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from eenn.cli import one_line_errors
from eenn.reports.sweep import comparison
from eenn.run_directory import claim, run_directory

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
    completed: Callable[[dict[str, Any]], dict[str, Any]] = lambda settings: settings,
) -> Iterator[tuple[dict[str, Any], Path]]:
    """Settings and directory of this Hydra job, claimed; a user's mistake ends it with one line.

    To the settings come the overrides and the name of the sweep, which groups its runs.

    Args:
        completed: the settings with what is only known from others of them.
    """
    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode is RunMode.MULTIRUN
    overrides = list(hydra_config.overrides.task)
    with one_line_errors(f"{hydra_config.job.num} {overrides}" if sweeping else None):
        directory = Path(hydra_config.runtime.output_dir)
        settings: Any = OmegaConf.to_container(config, resolve=True)
        settings |= {
            "overrides": overrides,
            "group": directory.parent.name if sweeping else None,
        }
        settings = completed(settings)
        claim(directory, OmegaConf.to_yaml(settings), settings.get("resume"), overrides)
        yield settings, directory
