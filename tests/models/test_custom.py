"""Networks of the user's own code: imported only if named, and checked before they are trained."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from eenn.artifact import store
from eenn.data.splits import Split
from eenn.errors import EennError
from eenn.models.backbones.registry import find_backbone
from eenn.models.backbones.weights import started
from eenn.models.building import build, place
from eenn.models.own_code import trust
from eenn.models.own_code.trust import check_code, trusting, typed
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import Temperatures
from tests.models.backbone_contract import check_backbone
from tests.models.own_code import NETWORK, write_module, write_trap

numbers = itertools.count()
Written = Callable[..., str]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """Writes a module of a name of its own to Python's path, and gives MODULE:FUNCTION."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(code: str = NETWORK) -> str:
        return write_module(tmp_path, f"own_network_{next(numbers)}", code)

    yield write
    for module in [module for module in sys.modules if module.startswith("own_network_")]:
        del sys.modules[module]


def test_a_network_of_ones_own_keeps_the_contract(written: Written) -> None:
    name = written()
    with trusting([name]):
        check_backbone(f"custom/{name}")
        assert place(7, 1, input_size=32, backbone=f"custom/{name}").positions == (1,)


def test_a_function_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    name = write_module(tmp_path, f"own_network_{next(numbers)}")
    with trusting([name]):
        assert len(started(find_backbone(f"custom/{name}"), 7).blocks) == 3


def test_nothing_is_imported_that_the_command_line_does_not_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    trap, other = write_trap(tmp_path, "own_network_trap"), "own_network_other:blocks"
    said = f"made by {trap}; if you trust that code, add build={trap} to the command line"
    for names in ([], [other], ["own_network_trap:more"], ["x.own_network_trap:blocks"]):
        with trusting(names), pytest.raises(EennError, match=said) as caught:
            find_backbone(f"custom/{trap}")
        assert "\n" not in str(caught.value)
    with trusting([trap]):
        pass
    with pytest.raises(EennError, match=said):
        find_backbone(f"custom/{trap}")
    assert not (tmp_path / "own_network_trap.imported").exists()


@pytest.mark.parametrize(
    "name",
    ["", "os", "os.system", "os:", ":x", "a:b:c", "a b:c", "a/b:c", "../a:b", "<b>:x", "a:\n"],
)
def test_a_label_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(EennError, match=r"allowed is MODULE:FUNCTION|model.name=custom"):
        find_backbone(f"custom/{name}")
    with pytest.raises(EennError, match="allowed is MODULE:FUNCTION"):
        check_code("build", name)


def test_names_count_as_they_are_typed() -> None:
    line = ["-m", "model=custom", "model.build=a.b:c,d:e", "artifact=f:g", "x.build=h:i"]
    assert typed(line) == ["a.b:c", "d:e"]
    assert typed(["+build=[a.b:c,'d:e']", '++model.build="f:g"']) == ["a.b:c", "d:e", "f:g"]
    assert typed(["build=null", "build", "--build=a:b"]) == []


def test_processes_of_a_run_trust_what_its_first_process_was_told() -> None:
    code = (
        "from eenn.models.own_code import trust\n"
        "with trust.trusting(['c:d']):\n"
        "    print(*sorted(trust._trusted))"
    )

    def told() -> str:
        ran = [sys.executable, "-c", code]
        return subprocess.run(ran, capture_output=True, text=True, check=True).stdout.strip()

    assert trust._VARIABLE not in os.environ
    assert told() == "c:d"
    with trusting(["a:b"]):
        assert told() == "a:b"
        with trusting(["e.f:g"]):
            assert told() == "a:b e.f:g"
        assert told() == "a:b"
    assert trust._VARIABLE not in os.environ


CLASSIFIER = "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))"
START = f"""
import torch
from torch import nn
from torch.nn import functional

class Block(nn.Module):
    def __init__(self, forward, before=3):
        super().__init__()
        self.layer, self.forward_of = nn.Conv2d(before, 4, 3, padding=1), forward

    def forward(self, x):
        return self.forward_of(self, x)

KEPT = nn.Conv2d(4, 4, 1)
COUNT = []

def classifier(classes):
    return {CLASSIFIER}

def plain(before=3):
    return Block(lambda self, x: self.layer(x), before)

def blocks(classes):
"""
FAULTS = [
    ("return [plain(), Block(lambda s, x: (s.layer(x), x), 4)], classifier(classes)",
     r"block 1 gives tuple; allowed is one tensor of float32"),
    ("return [plain(), Block(lambda s, x: s.layer(x).double(), 4)], classifier(classes)",
     r"block 1 gives torch.float64; allowed is one tensor"),
    ("return [Block(lambda s, x: s.layer(x)[:, :, :3])], classifier(classes)",
     r"block 0 gives \(2, 4, 3, 16\) for a batch of 2; allowed is one tensor \(batch, chan"),
    ("return [plain(), Block(lambda s, x: s.layer(x).flatten(1), 4)], classifier(classes)",
     r"block 1 gives \(2, 1024\) for a batch of 2"),
    ("return [Block(lambda s, x: s.layer(x)[:1])], classifier(classes)",
     r"block 0 gives \(1, 4, 16, 16\) for a batch of 2"),
    ("return [plain(), plain(5)], classifier(classes)",
     r"block 1 cannot take \(2, 4, 16, 16\): RuntimeError: .* \(.*own_network_\d+.py, line 21\)"),
    ("return [plain()], classifier(classes + 1)",
     r"classifier gives \(2, 8\) for a batch of 2; allowed is \(2, 7\), a logit for each"),
    ("return [plain()], nn.Linear(4, classes)", r"classifier cannot take \(2, 4, 16, 16\)"),
    ("return [plain()], nn.Conv2d(4, classes, 16)", r"classifier gives \(2, 7, 1, 1\)"),
    ("return [plain(), Block(lambda s, x: s.layer(x) / 0, 4)], classifier(classes)",
     r"block 1 gives numbers that are not finite"),
    ("return [plain(), nn.ReLU(inplace=True)], classifier(classes)",
     r"block 1 changes its input in place.*inplace=False"),
    ("scale = torch.ones(4, 1, 1)\n"
     "    return [Block(lambda s, x: s.layer(x) * scale)], classifier(classes)",
     r"block 0 needs the values of tensors to find.*register_buffer"),
    ("return [Block(lambda s, x: s.layer(x) if x.mean() > 9 else 2 * s.layer(x))], "
     "classifier(classes)", r"block 0 needs the values of tensors to find"),
    ("one = plain(4)\n    return [plain(), one, plain(4), one], classifier(classes)",
     r"block 1 is used again as block 3"),
    ("one = nn.Flatten()\n    return [plain(), one], one",
     r"block 1 is used again as the classifier"),
    ("one, two = plain(4), plain(4)\n    two.layer.bias = one.layer.bias\n"
     "    return [plain(), one, two], classifier(classes)",
     r"blocks.1.layer.bias and blocks.2.layer.bias are one tensor; every block"),
    ("return [plain(), KEPT], classifier(classes)",
     r"blocks.1.weight is the same tensor in every call; every block, in every"),
    ("COUNT.append(1)\n    return [plain(), *map(plain, [4] * len(COUNT))], classifier(classes)",
     r"gives another network when it is called again: blocks.2.layer.weight differs"),
    ("COUNT.append(1)\n    return [plain(), nn.Conv2d(4, 3 + len(COUNT), 1)], classifier(classes)",
     r"gives another network when it is called again: blocks.1.weight differs"),
    ("first = plain()\n    first.register_buffer('noise', torch.randn(4), persistent=False)\n"
     "    return [first], classifier(classes)",
     r"blocks.0.noise has other values when it is called again.*make it persistent"),
    ("return (one / 0 for one in [1]), classifier(classes)",
     r"fails for 7 classes: ZeroDivisionError: division by zero"),
    ("return [nn.LazyConv2d(4, 3)], classifier(classes)", "has lazy modules; give them their size"),
    ("return [], classifier(classes)", "gives Sequential; allowed are a list .* \\(one at least"),
    ("return [plain(), abs], classifier(classes)",
     "gives Block, builtin_function_or_method, Sequential; allowed are a list of modules"),
    ("return [plain()]", "gives list; allowed are a list of modules, which are the blocks"),
    ("return plain()", "gives Block; allowed are a list of modules"),
    ("return None", "gives NoneType; allowed are a list of modules"),
    ("return [nn.Conv2d(3, 4, 3).to(nothing)], classifier(classes)",
     r"fails for 7 classes: NameError: name 'nothing' is not defined \(.*_\d+.py, line 24\); HYD"),
    ("return [nn.Conv2d(3, 4, -3)], classifier(classes)", r"fails for 7 classes: RuntimeError"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "said"), FAULTS)
def test_a_fault_of_the_network_is_one_line(code: str, said: str, written: Written) -> None:
    name = written(f"{START}    {code}\n")
    with trusting([name]), pytest.raises(EennError, match=said) as caught:
        place(7, 0, input_size=16, backbone=f"custom/{name}")
    assert re.match(rf"custom/{name}[ ,:]", str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("blocks = 5", "has no function blocks; it is to take the number of classes"),
        ("def block(): ...", "has no function blocks"),
        ("import nowhere_at_all", r"ModuleNotFoundError: No module named 'nowhere_at_all' \(.*1\)"),
        ("1 / 0", r"ZeroDivisionError: division by zero \(.*own_network_\d+.py, line 1\)"),
        ("def blocks(:", r"SyntaxError: invalid syntax \(own_network_\d+.py, line 1\)"),
    ],
)
def test_a_fault_of_the_module_is_one_line(code: str, said: str, written: Written) -> None:
    name = written(code)
    with trusting([name]), pytest.raises(EennError, match=said) as caught:
        find_backbone(f"custom/{name}")
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there_is_one_line() -> None:
    said = (
        "custom/own_network_absent.x:blocks cannot be imported from Python's path or the working "
        "directory: ModuleNotFoundError: No module named 'own_network_absent';"
    )
    name = "own_network_absent.x:blocks"
    with trusting([name]), pytest.raises(EennError, match=said):
        find_backbone(f"custom/{name}")


def test_weights_are_read_by_block_and_a_classifier_of_other_classes_is_left_out(
    written: Written, tmp_path: Path
) -> None:
    name = written()
    with trusting([name]):
        backbone = find_backbone(f"custom/{name}")
        given = backbone.build(9).state_dict()
        torch.save(given, tmp_path / "weights.pth")
        blocks, classifier = started(backbone, 5, weights=tmp_path / "weights.pth")
        assert torch.equal(blocks[2].state_dict()["0.weight"], given["blocks.2.0.weight"])
        assert classifier.state_dict()["2.weight"].shape == (5, 96)
        with pytest.raises(EennError, match=r"nobody publishes weights of custom/.*allowed are"):
            started(backbone, 5, weights="imagenet")
        with pytest.raises(EennError, match="has one width"):
            started(backbone, 5, width_mult=0.5)


def test_the_check_draws_no_random_numbers(written: Written) -> None:
    name = written()
    found = []
    with trusting([name]):
        for _ in range(2):
            torch.manual_seed(3)
            network = find_backbone(f"custom/{name}").build(5)
            found.append(network.state_dict()["blocks.0.0.weight"])
    assert torch.equal(*found)


def test_values_that_no_file_holds_are_made_again_when_an_artifact_is_opened(
    written: Written, tmp_path: Path
) -> None:
    """Rates that Python reads from tensors, and buffers that are not stored, too."""
    name = written(
        f"{START}"
        "    rates = [rate.item() for rate in torch.linspace(0, 0.1, 2)]\n"
        "    first = Block(lambda self, x: self.layer(x) * self.scale)\n"
        "    first.register_buffer('scale', torch.tensor(0.5), persistent=False)\n"
        "    return [first, nn.Dropout(rates[1])], classifier(classes)\n"
    )
    with trusting([name]):
        architecture = place(3, 1, "linear", input_size=32, backbone=f"custom/{name}")
        network = build(architecture)
        store.save(
            tmp_path / "artifact",
            network,
            architecture=architecture,
            classes=("ant", "bee", "cat"),
            preprocessing=Preprocessing(32, 32),
            temperatures=Temperatures((1.5, 1.2), 1.1),
            fitted="in a test",
            validation_accuracy=(0.5, 0.7),
            split=Split(0, ("a",), ("b",), ("c",)),
        )
        loaded = store.load(tmp_path / "artifact").network
        x = torch.randn(5, 3, 32, 32)
        assert torch.equal(loaded(x), network.eval()(x))
    with pytest.raises(EennError, match=f"add build={name} to the command line"):
        store.load(tmp_path / "artifact")
    card = (tmp_path / "artifact" / "MODEL_CARD.md").read_text()
    assert "Its layers are made by code that is not in the artifact" in card


def test_networks_of_eenn_itself_are_checked_as_well() -> None:
    with pytest.raises(EennError, match=r"alexnet, block \d cannot take \(2, .*: RuntimeError"):
        place(7, 0, input_size=16, backbone="alexnet")
    assert isinstance(started(find_backbone("alexnet"), 7).classifier, nn.Module)
