"""The report of an experiment: arms, failures, unusual values, reproducibility."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.example_experiment import ARMS, SKILL, made_experiment
from helpers.html_page import Page

from medzoo.classification.scores import RocCurve
from medzoo.errors import IntegrityError
from medzoo.experiment.config import Arm, PretrainSettings, UseSettings, parse_arms, pretrain_arms
from medzoo.report.experiment import tables
from medzoo.report.experiment.controls import UNPRETRAINED, answers, control_comparisons
from medzoo.report.experiment.figures import experiment_figures, mean_curve, mean_curves, read_curves
from medzoo.report.experiment.levers import lever_tables, verdicts
from medzoo.report.experiment.report import write_experiment_report
from medzoo.report.experiment.tables import class_means, describe_absent_classes
from medzoo.report.experiment.text import describe_run

pytestmark = pytest.mark.xdist_group("experiment-report")  # one process makes what its tests share

FAILED = frozenset({("ldm", "resnet18", 2)})
MISSING = frozenset({("classic", "cnn", 4)})
NASTY = '<b>&"x $\\frac{$'
PRETRAIN = pretrain_arms(PretrainSettings(generator="ddpm"), target=500)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of a report with a failed and a missing cell."""
    folder = tmp_path_factory.mktemp("experiment")
    experiment = made_experiment(folder, failed=FAILED, missing=MISSING, warnings=("scans of one patient lie apart",))
    return {name: (folder / name).read_bytes() for name in write_experiment_report(experiment)}


@pytest.fixture
def page(written):
    return Page(written["report.html"].decode())


@pytest.fixture
def made(tmp_path):
    """Make an experiment of few arms up."""

    def call(**given: Any) -> Any:
        return made_experiment(tmp_path / "made", **{"arms": ARMS[:1], "classifiers": ("cnn",), **given})

    return call


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_write_experiment_report_shows_failed_cells(written, page):
    for words in (
        "Failed: resnet18 on ldm, fold 3. ResourceError: the device ran out of memory at step 412.",
        "1 of 70 cells have not been run yet (classic): means without them are partial.",
        "68 of 70 cells have scores; 1 failed and 1 not run.",
        "Scans of one patient lie apart.",
        "1 of 70 cells failed (ldm): means without them are partial.",
        "provisionally (1 of 5 folds left out without a score)",
    ):
        assert words in page.text
    assert page.text.count("n = 4 of 5 1 cell failed") == 5
    assert page.text.count("n = 4 of 5 1 cell not run") == 5
    (row,) = [row for row in table(written["cells.csv"]) if row["status"] == "failed"]
    assert (row["arm"], row["fold"], row["accuracy"], row["error"][:13]) == ("ldm", "2", "", "ResourceError")


def test_write_experiment_report_page_describes_the_run(page):
    for words in (
        "Did any generator outperform duplicate, which oversamples real images to the same count? No significant gain "
        "in any of 6 comparisons, which does not prove that there is none. This is provisional because not all cells "
        "have scores.",
        "Did any generator outperform classic,",
        "The dataset, data/scans, has 180 images in 3 classes (benign 80, malignant 60, normal 40).",
        "cnn and resnet18 were trained on 7 arms (real, weighted, duplicate, classic, ddpm-var, ldm, "
        "ldm=0.5+ddpm-var=0.5), once per fold of a 5-fold cross-validation.",
        "500 real images for training, 56 for validation (to select weights) and 36 for testing; every image is in "
        "the test set of one fold.",
        "The number of optimizer steps was the same in all arms: cnn 200, resnet18 200.",
        "Augmented arms have 500 images per class.",
        "An epoch is equally long in all arms; those with fewer distinct images repeat them.",
        "120 real and 180 synthetic distinct images",
        "ddpm-var and ldm were trained on each fold's training images only.",
        "cnn started from scratch. resnet18 started from imagenet (timm/resnet18.a1_in1k).",
        "Against duplicate, ldm",
        "Against real, weighted",
        "Limitations",
        "120 real, 180 synthetic",
        "not for diagnosis",
    ):
        assert words in page.text


def test_write_experiment_report_page_is_accessible_and_self_contained(page):
    assert len(page.all("h1")) == 1
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in page.all("img"))
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    assert not page.all("script")
    anchors = {link["href"][1:] for link in page.all("a")}
    named = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert anchors <= set(named)
    assert len(named) == len(set(named))


def test_write_experiment_report_tables_hold_everything(written):
    assert len(table(written["cells.csv"])) == 70
    assert len(table(written["summaries.csv"])) == 7 * 2 * 7
    assert len(table(written["class_differences.csv"])) == 6 * 2 * 7
    assert len(table(written["per_class.csv"])) == 68 * 3
    rows = table(written["comparisons.csv"])
    families = [row["against"] for row in rows]
    assert {name: families.count(name) for name in families} == {
        "control: duplicate": 6,
        "control: classic": 6,
        "baseline": 12,
    }
    assert all(row["sentence"].endswith(".") and row["effect"] and not row["gained"] for row in rows)
    found = json.loads(written["results.json"])
    assert len(found["cells"]) == 70
    assert [len(made) for made in found["control_comparisons"].values()] == [6, 6]


def test_write_experiment_report_saves_every_figure(written, page):
    assert sum(name.startswith("figures/") for name in written) == len(page.all("img"))
    assert {"figures/confusion-cnn-real.png", "figures/mixing-ddpm-var-ldm-500.png"} <= set(written)
    assert all(data.startswith(b"\x89PNG") for name, data in written.items() if name.startswith("figures/"))


def test_write_experiment_report_is_reproducible_and_removes_old_figures(made):
    experiment = made(folds=2)
    first = {name: (experiment.folder / name).read_bytes() for name in write_experiment_report(experiment)}
    (experiment.folder / "figures" / "confusion-cnn-gone.png").touch()
    assert {name: (experiment.folder / name).read_bytes() for name in write_experiment_report(experiment)} == first
    assert {f"figures/{path.name}" for path in (experiment.folder / "figures").iterdir()} < set(first)


def test_write_experiment_report_escapes_hostile_names(made):
    arms = (*ARMS[:1], Arm(name=NASTY, mixture={NASTY: 1.0}, target=500), Arm(name="W" * 90))
    failed = frozenset({(NASTY, NASTY, 1)})
    experiment = made(
        name=NASTY, arms=arms, classifiers=(NASTY,), classes=(NASTY, "漢字"), folds=2, failed=failed, error=NASTY
    )
    write_experiment_report(experiment)
    page = Page((experiment.folder / "report.html").read_text("utf-8"))
    assert not page.all("b")
    assert page.text.count(NASTY) > 10


def test_write_experiment_report_one_arm_and_seed(made):
    experiment = made(folds=0)
    write_experiment_report(experiment)
    text = Page((experiment.folder / "report.html").read_text("utf-8")).text
    assert "No arm has generated images." in text
    assert "There is no other arm to compare with." in text
    assert "no interval: there are fewer than two values; n = 1" in text


def test_write_experiment_report_before_anything_ran(made):
    experiment = made(
        arms=ARMS[:2], missing=frozenset((arm, "cnn", k) for arm in ("real", "weighted") for k in (0, 1)), folds=2
    )
    write_experiment_report(experiment)
    page = Page((experiment.folder / "report.html").read_text("utf-8"))
    assert "0 of 4 cells have scores; 4 not run." in page.text
    assert "No fold has balanced accuracy of cnn with both weighted and real" in page.text
    assert [image["alt"] for image in page.all("img")] == [
        "Balanced accuracy by arm. cnn: real not run, weighted not run."
    ]


def test_describe_absent_classes_names_folds(made):
    experiment = made(absent=frozenset({"normal"}), rare=frozenset({"malignant"}), folds=3)
    assert describe_absent_classes(experiment) == [
        "malignant has no test images in fold 2 and fold 3, where means exclude it",
        "normal has no test images and is excluded from all means",
    ]
    found = class_means(experiment, "real", "cnn")
    assert math.isnan(found[2]["recall"])
    assert found[1]["recall"] == experiment.cells[0].scores.per_class[1].recall


def test_experiment_figures_sum_confusion_matrices(made):
    experiment = made(folds=3)
    counts = sum(np.array(cell.scores.confusion) for cell in experiment.cells)
    figure = experiment_figures(experiment, {})["confusion", "cnn", "real"]
    assert figure.alt == f"cnn on real: {counts.trace()} of {counts.sum()} images classified correctly."


def test_experiment_figures_multi_label(made):
    experiment = made(multi_label=True, folds=2, metric="auc")
    figures = experiment_figures(experiment, {})
    kinds = {kind for kind, _, _ in figures}
    assert "confusion" not in kinds
    assert "class-roc" in kinds


def test_control_comparisons_have_the_same_count(tmp_path):
    arms = parse_arms(["ldm"], targets=[0, 500, 1000], controls=True)
    found = control_comparisons(made_experiment(tmp_path, arms=arms, classifiers=("cnn",)))
    assert {name: [(c.arm, c.baseline) for c in made] for name, made in found.items()} == {
        "duplicate": [("ldm@500", "duplicate@500"), ("ldm@1000", "duplicate@1000")],
        "classic": [("ldm@500", "classic@500"), ("ldm@1000", "classic@1000")],
    }
    assert [comparison.family for comparison in found["duplicate"]] == [2, 2]


def test_control_comparisons_with_the_baseline_as_control(tmp_path):
    experiment = made_experiment(tmp_path, baseline="duplicate", classifiers=("cnn",))
    own = [found for found in experiment.comparisons if found.arm in ("ddpm-var", "ldm", "ldm=0.5+ddpm-var=0.5")]
    assert list(control_comparisons(experiment)["duplicate"]) == own
    assert own[0].family == 6


@pytest.mark.parametrize(
    ("skill", "short", "words"),
    [
        ({"ldm": 9.0}, "Significant gain", "Significant gain in 1 of 1 comparison: ldm with cnn (+"),
        ({"ldm": -9.0}, "No significant gain", "Significant loss: ldm with cnn (\u2212"),
        (
            {"ldm": 1.4},
            "No significant gain",
            "No significant gain in the one comparison, which does not prove that there is none.",
        ),
    ],
    ids=str,
)
def test_answers_about_duplicate(made, skill, short, words):
    arms = parse_arms(["duplicate", "ldm"], targets=[500], controls=False)
    experiment = made(arms=arms, baseline="duplicate", skill={**SKILL, **skill})
    (found,) = answers(experiment, control_comparisons(experiment))
    assert found[0] == short
    assert words in found[1]


def test_answers_without_control(made):
    experiment = made(arms=parse_arms(["real", "ldm"], targets=[500], controls=False))
    (found,) = answers(experiment, control_comparisons(experiment))
    assert found[0] == "No control"


def test_answers_with_too_few_values(made):
    experiment = made(arms=parse_arms(["real", "duplicate", "ldm"], targets=[500], controls=False), folds=0)
    (found,) = answers(experiment, control_comparisons(experiment))
    assert found[0] == "Not tested"
    assert "1 comparison could not be tested" in found[1]


def test_pretrain_arms_and_their_controls(made):
    experiment = made(arms=(*parse_arms([], targets=[500], controls=True)[2:], *PRETRAIN), folds=0, seeds=2)
    arms = tables.pretrain_arms(experiment)
    assert len(arms) == 18
    assert [arm.real_fraction for arm in arms[8:]] == [0.0] * 2 + [0.1] * 4 + [1.0] * 4
    pairs = [(found.arm, found.baseline) for found in control_comparisons(experiment)[UNPRETRAINED]]
    assert len(pairs) == 8
    assert ("real 10%, pretrained, weighted", "real 10%, weighted") in pairs
    assert ("real 100%, pretrained", "real") in pairs


def test_mean_curve_averages_vertically():
    steep = RocCurve(name="a", false_positive_rate=(0.0, 0.0, 1.0), true_positive_rate=(0.0, 1.0, 1.0), auc=1.0)
    chance = RocCurve(name="a", false_positive_rate=(0.0, 1.0), true_positive_rate=(0.0, 1.0), auc=0.5)
    found = mean_curve([steep, chance])
    assert found.auc == 0.75
    assert (found.false_positive_rate[0], found.true_positive_rate[0]) == (0.0, 0.0)
    halfway = found.true_positive_rate[found.false_positive_rate.index(0.5)]
    assert halfway == pytest.approx(0.75)
    area = np.trapezoid(found.true_positive_rate, found.false_positive_rate)
    assert area == pytest.approx(found.auc)


def test_mean_curves_area_is_the_mean_auc(made):
    experiment = made()
    curve = mean_curves(experiment, read_curves(experiment), "cnn", experiment.classes)["real"]
    assert curve.auc == pytest.approx(experiment.summary("real", "cnn").estimates["auc"].mean)
    assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(curve.auc, abs=0.02)


def test_experiment_figures_roc_of_two_classes(made):
    experiment = made(classes=("normal", "pneumonia"), folds=2)
    last = np.mean([cell.scores.per_class[1].auc for cell in experiment.cells])
    (figure,) = [found for (kind, _, _), found in experiment_figures(experiment, {}).items() if "roc" in kind]
    assert figure.alt == f"cnn: ROC AUC real {last:.3f}."


def test_read_predictions_damaged_file(made):
    experiment = made(folds=2)
    path = Path(experiment.predictions(experiment.cells[1]))
    path.write_text("file,label\nx.png,benign\n")
    with pytest.raises(IntegrityError, match=r"predictions\.csv cannot be read"):
        write_experiment_report(experiment)


def test_write_experiment_report_image_tests_by_seed(made):
    experiment = made(arms=ARMS[:2], folds=0, seeds=3, failed=frozenset({("weighted", "cnn", 1)}))
    write_experiment_report(experiment)
    text = Page((experiment.folder / "report.html").read_text("utf-8")).text
    tests = [comparison.test for comparison in experiment.image_tests]
    assert len(tests) == 2
    counts = [f"{test.gained} : {test.lost} p = " for test in tests]
    row = text.split("Seed 0 Seed 2 weighted ")[1]
    assert row.startswith(counts[0])
    assert counts[1] in row
    assert "adjusted over 2 tests" in text


def test_describe_run_published_generator(made):
    experiment = made(arms=parse_arms(["real", "ldm-busi"], targets=[500], controls=False), folds=0, seeds=2)
    text = " ".join(describe_run(experiment))
    assert "ldm-busi is a published model (weights 777777777777), not trained here; none of the test images" in text
    assert "cnn was trained on 2 arms (real, ldm-busi), with 2 seeds each. The fixed split has" in text
    write_experiment_report(experiment)
    assert "All seeds share one split" in Page((experiment.folder / "report.html").read_text("utf-8")).text


LEVERED = parse_arms(["ddpm-var", "ldm"], targets=[500], controls=True, use=UseSettings(loss_weight=(1.0, 0.3)))


def test_lever_tables_show_effects_beside_the_controls(made):
    experiment = made(arms=LEVERED)
    found = lever_tables(experiment)["cnn"]
    assert found.levers == ("as they are", "weight 0.3")
    assert list(found.rows) == ["duplicate", "classic", "ddpm-var", "ldm"]
    score = found.rows["ldm"]["weight 0.3"]
    assert score.arm == "ldm, weight 0.3"
    assert score.effect == experiment.compare("ldm, weight 0.3", "ldm", "cnn").test.difference
    assert found.rows["ldm"]["as they are"].effect is None
    assert lever_tables(made(arms=ARMS[:2])) == {}


def test_verdicts_compare_with_the_control_of_the_same_levers(made):
    experiment = made(arms=LEVERED, skill={**SKILL, "ldm, weight 0.3": 9.0, "ddpm-var": -9.0})
    found = dict(
        zip(
            [arm.name for arm in LEVERED if not arm.control],
            verdicts(experiment, control_comparisons(experiment)),
            strict=True,
        )
    )
    badge, sentence = found["ldm, weight 0.3"]
    assert badge == "gain"
    assert sentence.startswith("ldm at weight 0.3 is +")
    assert " points over duplicate at weight 0.3 with cnn (95% CI +" in sentence
    assert "Holm-adjusted p" in sentence
    assert found["ddpm-var"][0] == "loss"
    assert re.match(r"ddpm-var is \d+\.\d points below duplicate with cnn \(95% CI \u2212", found["ddpm-var"][1])


def test_verdicts_gain_that_the_control_has_too(made):
    skill = dict.fromkeys(("duplicate", "classic", "ldm"), 6.0) | {"real": 0.5}
    experiment = made(arms=parse_arms(["ldm"], targets=[500], controls=True), skill=skill)
    ((badge, sentence),) = verdicts(experiment, control_comparisons(experiment))
    assert badge == "no difference"
    assert sentence.endswith("Its gain over real with cnn is not shown to exceed that of duplicate.")


def test_write_experiment_report_external_test_sets(made):
    experiment = made(arms=LEVERED, external=("elsewhere", "third"), folds=2)
    files = write_experiment_report(experiment)
    page = Page((experiment.folder / "report.html").read_text("utf-8"))
    assert "tested on the external test set elsewhere (36 images of data/elsewhere)" in page.text
    assert "External test sets" in page.text
    assert "Ways of using images" in page.text
    assert "All images come from one source" not in page.text
    assert "class_differences.csv" in files
    for name in ("cells.csv", "summaries.csv", "comparisons.csv", "per_class.csv", "class_differences.csv"):
        rows = table((experiment.folder / name).read_bytes())
        sets = [row["test_set"] for row in rows]
        assert sets.count("elsewhere") == sets.count("third") == sets.count("") == len(rows) / 3
    found = json.loads((experiment.folder / "results.json").read_text())
    assert set(found["external"]["third"]) == {"summaries", "comparisons", "image_tests", "control_comparisons"}


def test_class_differences_from_the_baseline(made):
    experiment = made(arms=LEVERED, rare=frozenset({"malignant"}), folds=4)
    found = tables.class_differences(experiment, "ldm", "cnn")
    assert set(found) == {(name, score) for name in experiment.classes for score in ("recall", "auc")} | {
        ("", "recall")
    }
    pairs = zip(experiment.of("ldm", "cnn"), experiment.of("real", "cnn"), strict=True)
    own = [one.scores.per_class[0].recall - other.scores.per_class[0].recall for one, other in pairs]
    assert found["benign", "recall"].mean == pytest.approx(np.mean(own))
    assert found["benign", "recall"].low < found["benign", "recall"].mean < found["benign", "recall"].high
    assert found["malignant", "recall"].counts == "1 of 4"
    worst = made(arms=LEVERED, metric="worst_class").comparisons[0]
    assert "worst-class recall of cnn" in worst.sentence()
    assert experiment.cells[0].value("worst_class") == min(s.recall for s in experiment.cells[0].scores.per_class)
