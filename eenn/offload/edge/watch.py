"""A folder watched for image files, by polling, which works on every file system."""

import os
from collections.abc import Container
from pathlib import Path

from eenn.image_file import looks_like_image

_Stamp = tuple[int, int]


class NewImages:
    """Image files of a folder, present and future ones, without hidden files.

    Files are images by their suffix or their first bytes; `others` are the rest, as of the last
    poll. A file that is still being written is not returned: it has to be the same at two polls in
    a row.

    Args:
        answered: paths that are not returned any more.
    """

    def __init__(self, folder: Path, answered: Container[str]) -> None:
        self._folder, self._answered = folder, answered
        self._before: dict[str, _Stamp] = {}
        self._given: dict[str, _Stamp] = {}
        self._looked_at: dict[str, tuple[_Stamp, bool]] = {}

    @property
    def others(self) -> list[str]:
        """List the paths of files that are not images."""
        return sorted(path for path, (_, is_image) in self._looked_at.items() if not is_image)

    def poll(self) -> list[str]:
        """List the paths of complete files that were not returned before in this state, sorted.

        A file that was returned and not answered is returned again once it has changed, because it
        may have been incomplete.

        Raises:
            OSError: the folder cannot be read.
        """
        now = self._stamps()
        settled = sorted(
            path
            for path, stamp in now.items()
            if path not in self._answered
            and self._before.get(path) == stamp
            and self._given.get(path) != stamp
        )
        self._before = now
        self._given |= {path: now[path] for path in settled}
        return settled

    def _stamps(self) -> dict[str, _Stamp]:
        """Read size and time of change of every image file.

        A file that cannot be examined has the error's number instead; it is returned, so that
        reading it reports the error.
        """
        stamps, looked_at = {}, {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    if entry.is_file():
                        status = entry.stat()
                        stamp = (status.st_size, status.st_mtime_ns)
                        before, is_image = self._looked_at.get(entry.path, (None, False))
                        if before != stamp:
                            is_image = looks_like_image(entry.path)
                        looked_at[entry.path] = stamp, is_image
                        if is_image:
                            stamps[entry.path] = stamp
                except FileNotFoundError:
                    continue  # removed since the folder was listed
                except OSError as error:
                    stamps[entry.path] = (-1, error.errno or 0)
        self._looked_at = looked_at
        return stamps
