"""Sources of images by the names that configurations have for them."""

from eenn.data.by_name import Table
from eenn.data.datasets import FolderImages, ImageSource, caltech256
from eenn.data.demo import DemoImages

SOURCES: Table[ImageSource] = Table(
    {"folder": FolderImages, "caltech256": caltech256, "demo": DemoImages},
    {
        "eenn.data.datasets.FolderImages": "folder",
        "eenn.data.datasets.caltech256": "caltech256",
        "eenn.data.demo.DemoImages": "demo",
    },
)
