"""Tables as they come out of an 80 column terminal."""

import math

from rich.console import Console
from rich.table import Table

from mbdet.metrics.classification import ClassAccuracy, ClassificationMetrics
from mbdet.metrics.coco import ClassMetrics, CocoMetrics
from mbdet.metrics.voc import VocClassMetrics, VocMetrics
from mbdet.report.tables import class_table, metrics_table

NAN = math.nan


def metrics(per_class: dict[str, ClassMetrics]) -> CocoMetrics:
    return CocoMetrics(0.1, 0.2, 0.3, NAN, 0.5, 0.6, 0.7, 0.8, 0.9, 0.11, 0.12, 0.13, per_class)


def lines(table: Table) -> list[str]:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]


def test_twelve_figures() -> None:
    rows = [line.split() for line in lines(metrics_table(metrics({})))]
    assert rows == [
        ["AP", "AP50", "AP75", "APs", "APm", "APl"],
        ["0.1000", "0.2000", "0.3000", "-", "0.5000", "0.6000"],
        ["AR1", "AR10", "AR100", "ARs", "ARm", "ARl"],
        ["0.7000", "0.8000", "0.9000", "0.1100", "0.1200", "0.1300"],
    ]


def test_order_of_classes() -> None:
    table = metrics(
        {
            "zebra": ClassMetrics(0.5, 0.6, 0.7, 10),
            "unseen": ClassMetrics(NAN, NAN, NAN, 0),
            "[red]": ClassMetrics(0.25, 0.375, 0.5, 20),
            "never found": ClassMetrics(0.0, 0.0, 0.0, 30),
        }
    )
    assert [line.split()[-5:] for line in lines(class_table(table, "AP"))] == [
        ["class", "AP", "AP50", "AR100", "count"],
        ["zebra", "0.500", "0.600", "0.700", "10"],
        ["[red]", "0.250", "0.375", "0.500", "20"],
        ["found", "0.000", "0.000", "0.000", "30"],
        ["unseen", "-", "-", "-", "0"],
    ]
    names = [line[:11].strip() for line in lines(class_table(table, "name"))]
    assert names == ["class", "[red]", "never found", "unseen", "zebra"]


def test_many_classes_stand_in_two_blocks_of_80_columns() -> None:
    names = [f"baseball {number:05d}" for number in range(79)]  # 14 letters, like the longest of COCO
    table = metrics({name: ClassMetrics(0.999 - 0.01 * n, 0.5, 0.5, 262465) for n, name in enumerate(names)})
    rows = lines(class_table(table, "AP"))
    assert len(rows) == 1 + 40
    assert max(map(len, rows)) <= 80
    assert "…" not in "".join(rows)
    assert rows[1].split() == [
        *("baseball", "00000", "0.999", "0.500", "0.500", "262465"),
        *("baseball", "00040", "0.599", "0.500", "0.500", "262465"),
    ]
    assert rows[40].split() == ["baseball", "00039", "0.609", "0.500", "0.500", "262465"]


def test_long_names_keep_their_letters_and_the_figures_theirs() -> None:
    names = [f"{'long ' * 20}{number}" for number in range(30)]
    rows = lines(class_table(metrics({name: ClassMetrics(0.25, 0.5, 0.75, 262465) for name in names}), "name"))
    assert max(map(len, rows)) <= 80
    assert sum(line.endswith("0.250 0.500 0.750 262465") for line in rows) == 30
    assert " ".join(rows).count("long") == 20 * 30


def test_no_classes() -> None:
    assert lines(class_table(metrics({}), "AP")) == []


def test_voc_figures_stand_beside_those_of_coco() -> None:
    names = [f"aeroplane {number:04d}" for number in range(25)]  # more than a block, but too many columns for two
    per_class = {name: VocClassMetrics(0.25, 0.5, 0.75, 262465, 0.625, NAN) for name in names}
    voc = VocMetrics(*[0.5] * 12, per_class, AP50_voc07=0.7, AP50_voc=0.8)
    rows = lines(metrics_table(voc))
    assert rows[4].split() == ["AP50_voc07", "AP50_voc"]
    assert rows[5].split() == ["0.7000", "0.8000"]
    rows = lines(class_table(voc, "name"))
    assert len(rows) == 26
    assert max(map(len, rows)) <= 80
    assert rows[0].split() == ["class", "AP", "AP50", "AR100", "AP50_voc07", "AP50_voc", "count"]
    assert rows[1].split() == ["aeroplane", "0000", "0.250", "0.500", "0.750", "0.625", "-", "262465"]


def test_figures_of_a_classifier() -> None:
    per_class = {
        "cat": ClassAccuracy(0.5, 1.0, 4),
        "dog": ClassAccuracy(0.75, 1.0, 4),
        "owl": ClassAccuracy(NAN, NAN, 0),
    }
    classifier = ClassificationMetrics(0.625, 1.0, per_class)
    assert [line.split() for line in lines(metrics_table(classifier))] == [["top1", "top5"], ["0.6250", "1.0000"]]
    assert [line.split() for line in lines(class_table(classifier, "top1"))] == [
        ["class", "top1", "top5", "count"],
        ["dog", "0.750", "1.000", "4"],
        ["cat", "0.500", "1.000", "4"],
        ["owl", "-", "-", "0"],
    ]
