"""Fixtures that several test files share."""

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

if TYPE_CHECKING:
    from eenn.models.early_exit import EarlyExitNet
    from tests.offload.exported import Exported

# Started in the background of a shell, this process would ignore it, and so those that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, however long it takes over one.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no process ends alone with the longest of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def close_log_files() -> Iterator[None]:
    """Close the log files of Hydra's jobs, which whoever configures logging next may not know."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler) is logging.FileHandler:
            root.removeHandler(handler)
            handler.close()


@pytest.fixture(scope="session")
def write_images() -> Callable[..., Path]:
    """A function that writes `root/CLASS/N.jpg`, distinct noise images, N counted from zero."""

    def write(root: Path, size: tuple[int, int] = (48, 40), **images_of_class: int) -> Path:
        generator = np.random.default_rng(0)
        for name, count in images_of_class.items():
            (root / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (size[1], size[0], 3), np.uint8)
                Image.fromarray(pixels).save(root / name / f"{number}.jpg")
        return root

    return write


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]
) -> "Exported":
    """A small artifact with exported graphs; see `tests.offload.exported`."""
    # Imported here because torch and onnx take seconds, and most tests do without.
    from tests.offload.exported import export_once

    return export_once(tmp_path_factory.getbasetemp(), write_images)


@pytest.fixture(scope="session")
def upstream(
    tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]
) -> "tuple[Path, EarlyExitNet]":
    """Another exported artifact of the same classes, and its network."""
    from tests.offload.exported import upstream_once

    return upstream_once(tmp_path_factory.getbasetemp(), write_images)
