"""Writes the tables into README.md."""

from benchmarks.readme import rebuilt
from benchmarks.readme.results import ROOT
from eenn.files import write_file

if __name__ == "__main__":
    write_file(ROOT / "README.md", rebuilt((ROOT / "README.md").read_text()))
