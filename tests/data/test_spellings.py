"""The usual spellings of parts, columns and class names are understood, and what is left open is said or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.image_sets import write_csv, write_folder

from medzoo.data.dataset import open_dataset
from medzoo.data.metadata import LINE
from medzoo.data.spellings import class_name_issues, find_columns, part_of, without_part
from medzoo.errors import DataError


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("TRAIN", "train"),
        ("Training", "train"),
        ("01_train", "train"),
        ("train-images", "train"),
        ("Validation set", "val"),
        ("dev", "val"),
        ("valid.1", "val"),
        ("Testing", "test"),
        ("EVAL", "test"),
        ("evaluation_2", "test"),
        ("strain", None),
        ("contest", None),
        ("retraining", None),
        ("train_val", None),
        ("normal", None),
        ("", None),
    ],
)
def test_part_of_words_of_hugging_face(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_without_part_leaves_the_rest() -> None:
    assert without_part("Train_Images") == without_part("test_images") == "_images"
    assert without_part("train-busi") != without_part("test-chest")


def rows(columns: str, *lines: str) -> tuple[list[str], list[dict[str, str]]]:
    names = columns.split(",")
    found = [dict(zip(names, line.split(","), strict=True)) | {LINE: str(k + 2)} for k, line in enumerate(lines)]
    return names, found


@pytest.mark.parametrize(
    ("columns", "used"),
    [
        ("image_path,Diagnosis", {"file": "image_path", "label": "Diagnosis"}),
        (
            "Image Index,Finding Labels,Patient ID",
            {"file": "Image Index", "label": "Finding Labels", "patient": "Patient ID"},
        ),
        ("img,dx,PatientID", {"file": "img", "label": "dx", "patient": "PatientID"}),
        ("id_code,diagnosis", {"file": "id_code", "label": "diagnosis"}),
        ("file,label,class", {"file": "file", "label": "label"}),
        ("file,label,study_id,subject_id", {"file": "file", "label": "label", "patient": "subject_id"}),
        ("file_name,category,CaseNo", {"file": "file_name", "label": "category", "patient": "CaseNo"}),
    ],
)
def test_find_columns_by_usual_spellings(columns: str, used: Mapping[str, str]) -> None:
    names, values = rows(columns, ",".join(["a1", "b2", "c3", "d4"][: columns.count(",") + 1]))
    found = find_columns("t.csv", names, values)
    assert found.named() == used
    assert found.unused == tuple(name for name in names if name not in used.values())


@pytest.mark.parametrize("column", ["partition", "Set", "subset", "phase", "usage", "fold", "dataset"])
def test_find_columns_takes_another_column_of_parts_only_if_all_are_parts(column: str) -> None:
    found = find_columns("t.csv", *rows(f"file,label,{column}", "a,x,Train", "b,x,TESTING", "c,x,dev"))
    assert found.part == column
    other = find_columns("t.csv", *rows(f"file,label,{column}", "a,x,1", "b,x,2"))
    assert other.part is None
    assert other.unused == (column,)
    with pytest.raises(DataError, match=rf"line 3: unknown {column} 'tset'"):
        find_columns("t.csv", *rows(f"file,label,{column}", "a,x,train", "b,x,tset"))


def test_find_columns_refuses_what_is_left_open() -> None:
    with pytest.raises(DataError, match="several columns that may hold the label: class, dx") as caught:
        find_columns("t.csv", *rows("file,class,dx", "a,x,1", "b,x,2"))
    assert caught.value.hint == "rename one of them to label"
    with pytest.raises(DataError, match="several columns that may hold the file: path, image_id"):
        find_columns("t.csv", *rows("path,image_id,label", "a,b,x"))
    with pytest.raises(DataError, match="name different parts"):
        find_columns("t.csv", *rows("file,label,split,set", "a,x,train,test"))
    with pytest.raises(DataError, match="has the columns 'Label' and 'label'"):
        find_columns("t.csv", *rows("file,Label,label", "a,x,y"))


def test_find_columns_takes_the_first_of_columns_with_the_same_classes() -> None:
    found = find_columns("t.csv", *rows("file,class,target", "a,cat,0", "b,dog,1", "c,cat,0"))
    assert found.label == "class"
    assert found.unused == ("target",)


@pytest.mark.parametrize(
    ("column", "values", "like"),
    [
        ("Patientennummer", "1 1 2 2", True),
        ("paciente", "1 1 2 2", True),
        ("lesion_id", "L1 L1 L2 L3", True),
        ("wsiId", "7 7 8 8", True),
        ("患者番号", "1 1 2 3", True),
        ("patient_age", "60 60 71 71", False),
        ("study_date", "1 1 2 2", False),
        ("scanner_id", "1 1 2 2", False),
        ("exam_key", "1 2 3 4", False),  # each on one image
        ("series", "1 1 1 1", False),
        ("width", "1 1 2 2", False),
        ("kind_id", "0 1 0 1", False),  # the label, in numbers
    ],
)
def test_find_columns_names_unused_columns_like_a_patients(column: str, values: str, like: bool) -> None:
    lines = [f"{k},{'xy'[k % 2]},{value}" for k, value in enumerate(values.split())]
    found = find_columns("t.csv", *rows(f"file,label,{column}", *lines))
    assert found.patient is None
    assert found.patient_like == ((column,) if like else ())
    assert found.unused == (column,)


def test_find_columns_an_examination_within_a_patient_separates_nothing_more() -> None:
    nested = find_columns("t.csv", *rows("file,label,patient,study", "a,x,p,1", "b,y,p,1", "c,y,q,2"))
    assert (nested.patient, nested.patient_like) == ("patient", ())
    across = find_columns("t.csv", *rows("file,label,patient,study", "a,x,p,1", "b,y,q,1", "c,y,q,2"))
    assert across.patient_like == ("study",)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["benign", "Benign"], "differ only in case"),
        (["caf\u00e9", "cafe\u0301"], "differ only in case"),
        (["a  b", "a b"], "differ only in case"),
        (["0", "0.0"], "the same number: '0' and '0.0'"),
        (["1", "01"], "the same number"),
        (["nan", "x"], "missing label: 'nan'"),
        (["N/A", "x"], "missing label: 'N/A'"),
        (["a/b", "c"], "cannot be a folder's name: 'a/b'"),
    ],
)
def test_class_name_issues_names_slips(classes: list[str], words: str) -> None:
    assert any(words in issue for issue in class_name_issues(classes))


def test_class_name_issues_of_plain_names() -> None:
    assert class_name_issues(["0", "1", "10", "benign", "malignant", "grade 1", "grade 2", "nano"]) == []


# In a table on disk


def test_open_dataset_splits_by_the_usual_columns(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 4})
    table = [
        "x/000.png,a,P1,Training,50",
        "x/001.png,b,P1,training,50",
        "x/002.png,a,P2,EVAL,60",
        "x/003.png,b,P3,Dev,70",
    ]
    found = open_dataset(write_csv(tmp_path / "l.csv", "Image_Path,Diagnosis,PatientID,Partition,age", *table))
    assert {part: len(images) for part, images in found.held_out.items()} == {"val": 1, "test": 1}
    assert found.patients == ("P1", "P1")
    assert found.held_out["test"].names == ("x/002.png",)
    summary = found.summary().to_dict()
    assert summary["columns"] == {
        "file": "Image_Path",
        "label": "Diagnosis",
        "part": "Partition",
        "patient": "PatientID",
    }
    assert summary["unused_columns"] == ["age"]
    assert summary["patients"] == 3


def test_open_dataset_says_which_rows_have_no_part(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 3})
    lines = ["x/000.png,a,train,0", "x/001.png,a,,1", "x/002.png,a,test,2"]
    found = open_dataset(write_csv(tmp_path / "l.csv", "file,label,subset,cv_fold", *lines))
    assert found.names == ("x/000.png", "x/001.png")
    assert found.findings.notes == ("1 row without a subset taken for train",)
    assert "column not used but like a part's: cv_fold" in found.summary().line()


def test_open_dataset_finds_files_that_windows_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "scans", {"x": 2})
    found = open_dataset(write_csv(tmp_path / "l.csv", "file,label", "scans\\x\\000.png,a", "scans/x/001,b"))
    assert [len(found.pixels(k)) for k in range(2)] == [12, 12]
    assert found.findings.notes == ("backslashes taken for slashes in 1 names", "suffix added to 1 names")
    with pytest.raises(DataError, match=r"C:.*a path of Windows") as caught:
        open_dataset(write_csv(tmp_path / "d.csv", "file,label", "C:\\scans\\1.png,a"))
    assert "relative to d.csv" in caught.value.hint
    with pytest.raises(DataError, match="is not a file and has none of the suffixes"):
        open_dataset(write_csv(tmp_path / "m.csv", "file,label", "scans/x/009,a"))
    write_folder(tmp_path / "more", {"x": 1}).joinpath("x/000.png").rename(tmp_path / "scans/x/001.JPG")
    with pytest.raises(DataError, match="without a suffix, and there is"):
        open_dataset(tmp_path / "l.csv")
