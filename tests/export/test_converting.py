"""What no format can say becomes one line, whatever its converter raises."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from small_exports import NAMES, small_export
from torch import Tensor

from mbdet.errors import InputError
from mbdet.export.base import Export, Form, Precision
from mbdet.export.converting import converting
from mbdet.export.format import Order
from mbdet.export.formats import NAMES as FORMATS
from mbdet.export.formats import find_format


class Unknown(Export[Any]):
    """Decomposes with an operator that no format has."""

    task = "classification"

    def outputs(self, form: Form) -> dict[str, str]:
        return {"probabilities": "of each class"}

    def forward(self, images: Tensor, form: Form) -> dict[str, Tensor]:
        return {"probabilities": torch.linalg.svdvals(self.network(images)[:, :, None])}

    def compare(self, pairs: Any, precision: Precision) -> Any:
        raise AssertionError("there is no file")


class Branching(Unknown):
    """Goes one way or the other by what it sees, which cannot be traced."""

    def forward(self, images: Tensor, form: Form) -> dict[str, Tensor]:
        logits = self.network(images)
        return {"probabilities": logits if logits.sum() > 0 else -logits}


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [*((name, Unknown, "svd") for name in FORMATS), ("onnx", Branching, "converter refuses .* data-dependent")],
)
def test_what_a_format_cannot_say_is_named(
    name: str, kind: type[Unknown], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        target = find_format(name)
    except InputError as error:
        pytest.skip(str(error))
    export = kind(small_export("classification").network).eval()
    export.preparation = {}
    with pytest.raises(InputError, match=message):
        target.write(Order(export, Form(nms=False), NAMES), tmp_path / f"m{target.suffix}")
    assert capfd.readouterr() == ("", "")


def fail_within(*causes: Exception) -> None:
    with converting("Any"):
        for cause, error in itertools.pairwise(causes):
            error.__cause__ = cause
        raise causes[-1]


@pytest.mark.parametrize(
    ("causes", "reason"),
    [
        ([RuntimeError("step 1 of 3 failed")], "step 1 of 3 failed"),
        ([KeyError(), TypeError("no whirl\nat line 3"), RuntimeError("step 1 of 3 failed")], "no whirl"),
        ([AssertionError()], "AssertionError"),
    ],
)
def test_the_reason_is_what_failed_first(causes: list[Exception], reason: str) -> None:
    with pytest.raises(InputError, match=rf"^Any's converter refuses the network \({reason}\); build it from other"):
        fail_within(*causes)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("keep fewer layers"), "^keep fewer layers$"),
        (OSError(28, "No space"), r"read or write \(.*No space"),
    ],
)
def test_what_is_not_the_networks_fault(error: Exception, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fail_within(error)
