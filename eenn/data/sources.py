"""Sources of images by the names that configurations have for them."""

from collections.abc import Callable, Mapping

from eenn.data import published
from eenn.data.by_name import Table
from eenn.data.datasets import FolderImages, ImageSource
from eenn.data.demo import DemoImages
from eenn.data.downloads import Archive

SOURCES: Table[ImageSource] = Table(
    {
        "folder": FolderImages,
        "caltech101": published.caltech101,
        "caltech256": published.caltech256,
        "cifar10": published.cifar10,
        "cifar100": published.cifar100,
        "demo": DemoImages,
    },
    {
        "eenn.data.datasets.FolderImages": "folder",
        "eenn.data.datasets.caltech256": "caltech256",
        "eenn.data.demo.DemoImages": "demo",
    },
)
# Archives of the sources that are downloaded where they are absent.
ARCHIVES: Mapping[Callable[..., ImageSource], Archive] = {
    published.caltech101: published.CALTECH101,
    published.caltech256: published.CALTECH256,
    published.cifar10: published.CIFAR10,
    published.cifar100: published.CIFAR100,
}
