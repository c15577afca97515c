"""The layout of a folder of images: class folders, alone or inside the parts of a split."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from eenn.errors import EennError
from eenn.image_file import looks_like_image

# Names of the folders of each part, in capitals or not.
SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
PART_OF = {spelling: part for part, spellings in SPELLINGS.items() for spelling in spellings}


@dataclass(frozen=True)
class Layout:
    """The folders of classes, and of parts, under a root.

    Args:
        parts: the part of the split by the name of its folder; empty where class folders lie in
            `root` itself.
    """

    root: Path
    parts: Mapping[str, str]

    @classmethod
    def of(cls, root: Path) -> "Layout":
        """Detect the layout of a folder.

        Folders are parts if all of them are named as parts, and each holds folders and no images
        beside those, or nothing at all. Otherwise all are classes.
        """
        folders = {
            folder.name: folder
            for folder in visible_folders(root)
            if folder.name.lower() not in PART_OF or not _is_empty(folder)
        }
        parts = {name: PART_OF[name.lower()] for name in folders if name.lower() in PART_OF}
        are_parts = len(parts) == len(folders) and all(map(_holds_classes, folders.values()))
        return cls(root, parts if are_parts else {})

    def require_parts(self) -> None:
        """Check that parts, if there are any, can be trained and tested on.

        Raises:
            EennError: no folder for training or test images, or two for the same part.
        """
        count = Counter(self.parts.values())
        twice = [name for name, part in self.parts.items() if count[part] > 1]
        if twice:
            raise EennError(
                f"data.root={self.root} holds {' and '.join(twice)}, which are one part; put their "
                "class folders into one of them"
            )
        missing = [part for part in ("train", "test") if self.parts and part not in count]
        if missing:
            held = min(self.parts, key=lambda name: self.parts[name] != "train")
            raise EennError(
                f"data.root={self.root} holds {', '.join(self.parts)} and not "
                f"{' and '.join(missing)}; add it, or give data.root={self.root / held} to have "
                "all parts drawn from its images"
            )

    @property
    def class_folders(self) -> list[Path]:
        """List the folders of the classes, part by part."""
        holders = [self.root / name for name in self.parts] or [self.root]
        return [folder for holder in holders for folder in visible_folders(holder)]

    def class_of(self, sample_id: str) -> str:
        """Name the class of a file by its path below the root."""
        return PurePath(sample_id).parts[1 if self.parts else 0]

    def part_of(self, sample_id: str) -> str:
        """Name the part of a file by its path below the root, which has parts."""
        return self.parts[PurePath(sample_id).parts[0]]


def visible_folders(root: Path) -> list[Path]:
    """List the folders in a folder by name, without hidden ones."""
    return [d for d in sorted(root.iterdir()) if d.is_dir() and not d.name.startswith(".")]


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:
        return False  # which reading it as a class reports


def _holds_classes(folder: Path) -> bool:
    try:
        files = (path for path in folder.iterdir() if not path.name.startswith("."))
        loose = any(looks_like_image(path) for path in files if not path.is_dir())
        return bool(visible_folders(folder)) and not loose
    except OSError:
        return False  # which reading it as a class reports
