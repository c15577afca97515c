"""The command `eenn-export`: ONNX graphs of an artifact, and copies for devices and Triton.

eenn-export outputs/train/demo/TIMESTAMP/artifact
eenn-export latest --deployment deployment.json --to FOLDER
eenn-export latest --plans plans.json --to FOLDER
eenn-export latest --triton models
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from eenn.artifact.manifest import read_manifest
from eenn.cli import one_line_errors
from eenn.errors import EennError
from eenn.models.own_code.trust import check_code, trusting
from eenn.offload.export.folder import plan_folder, write_folder
from eenn.offload.export.triton import write_model_repository
from eenn.offload.graphs.index import FOLDER, Graphs
from eenn.programs import EXPORT
from eenn.run_directory import find_artifact


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: export an artifact, or copy its graphs."""
    given = _parser().parse_args(arguments)
    with one_line_errors(), trusting(given.build):
        _export(given)


def _export(given: argparse.Namespace) -> None:
    for name in given.build:
        check_code("--build", name)
    manifest = read_manifest(find_artifact(given.artifact))
    path = manifest.path
    if given.deployment is not None and given.plans is not None:
        raise EennError("--deployment FILE and --plans FILE: allowed is one of them")
    if (given.to is None) != (given.deployment is None and given.plans is None):
        raise EennError(
            "--deployment FILE, or --plans FILE, and --to FOLDER: allowed are both or neither of "
            "them"
        )
    if given.deployment is None and given.upstream is not None:
        raise EennError("--upstream DIR needs --deployment FILE and --to FOLDER; leave it out")
    for_device = None if given.to is None else plan_folder(given, manifest)
    if given.triton is not None and given.triton.exists():
        raise EennError(f"--triton {given.triton} exists already; choose another directory")
    if (given.triton is None and for_device is None) or not (path / FOLDER).exists():
        # Imported here because torch takes seconds, and a wrong path should fail at once.
        from eenn.offload.export.report import REPORT, export_artifact
        from eenn.records.evaluated_artifact import open_artifact

        artifact = open_artifact(given.artifact, given.images)
        report = export_artifact(artifact, given.calibration, given.checked)
        print(f"\n{report}\n\ngraphs and {REPORT}: {path / FOLDER}")
    if given.triton is not None:
        write_model_repository(Graphs.read(path), given.triton)
        print(f"model repository: {given.triton}")
    if for_device is not None:
        print(f"for a device: {write_folder(Graphs.read(path), for_device, given.to)}")
        print(f"there: eenn-edge --artifact {given.to.name} photo.jpg")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eenn-export",
        description="Write the ONNX graphs of an artifact into its folder onnx/, in fp32 and int8, "
        "check them against PyTorch, and report what int8 changes on the validation images.",
    )
    parser.add_argument("--version", action="version", version=EXPORT.version)
    parser.add_argument("artifact", help="directory of an artifact, or latest")
    parser.add_argument(
        "--images",
        metavar="PATH",
        help="folder of class folders with the artifact's images, if images or artifact have moved",
    )
    parser.add_argument(
        "--build",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="function of your own that makes the artifact's network, if that is custom; this code "
        "is run",
    )
    parser.add_argument(
        "--calibration",
        type=int,
        default=256,
        metavar="N",
        help="training images to measure the ranges for int8 on (%(default)s)",
    )
    parser.add_argument(
        "--checked",
        type=int,
        default=64,
        metavar="N",
        help="validation images to compare every graph with PyTorch on (%(default)s)",
    )
    parser.add_argument(
        "--triton",
        type=Path,
        metavar="DIR",
        help="write a model repository for Triton or KServe to DIR, from new or existing graphs",
    )
    _add_device(parser.add_argument_group("a folder for a device, from new or existing graphs"))
    return parser


def _add_device(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--deployment", type=Path, metavar="FILE", help="deployment file for the device, with --to"
    )
    group.add_argument(
        "--plans",
        type=Path,
        metavar="FILE",
        help="table of plans that eenn-plan wrote, in place of one deployment",
    )
    group.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="write the files that eenn-edge needs for it, and no others",
    )
    group.add_argument(
        "--upstream",
        type=Path,
        metavar="DIR",
        help="artifact of the deployment's upstream network, if that runs on the device",
    )


if __name__ == "__main__":
    main()
