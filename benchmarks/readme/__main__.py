"""Writes the tables into README.md and docs/."""

from benchmarks.readme import PAGES, rebuilt
from benchmarks.readme.results import ROOT
from eenn.files import write_file

if __name__ == "__main__":
    for page in PAGES:
        write_file(ROOT / page, rebuilt((ROOT / page).read_text()))
