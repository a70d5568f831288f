"""The usual spellings of parts, columns and class names in people's data."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medzoo.data.metadata import LINE
from medzoo.errors import DataError


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text, to write down long lists of them."""
    return tuple(text.split())


# The words and separators by which Hugging Face datasets knows splits (datasets/data_files.py: SPLIT_KEYWORDS and
# NON_WORDS_CHARS), here in any letter case.
_PART_WORDS: Mapping[str, frozenset[str]] = {
    "train": frozenset({"train", "training"}),
    "val": frozenset({"validation", "valid", "dev", "val"}),
    "test": frozenset({"test", "testing", "eval", "evaluation"}),
}
_SEPARATORS = re.compile(r"[-._ 0-9]+")

# Spellings are compared by letters and digits alone, in lower case. medzoo's own spellings come first and win.
_FILE = ("file", "filename")
_FILE_TOO = words(
    "filepath path image images imagefile imagefilename imagefilepath imagename imagepath imageid imageindex img "
    "imgfile imgid imgname imgpath picture pictureid relativepath relpath idcode"
)
_LABEL = ("label", "labels")
_LABEL_TOO = words(
    "class classname classlabel classes labelname category categories diagnosis dx finding findings findinglabels "
    "pathology disease diagnostic diagnose befund klasse groundtruth target y labelid classid"
)
_PART = ("split",)
_PART_TOO = ["part", "partition", "set", "subset", "phase", "usage", "fold", "dataset", "datasplit", "datasettype"]
# From the widest to the narrowest: a patient has several studies, a study several series.
_PATIENT = words(
    "patient patientid patientno patientnr patientnum patientnumber patientcode patientname patientidentifier "
    "anonpatientid patid pat pid mrn subject subjectid subjectno subjectnumber subj subjid participant "
    "participantid person personid individual individualid proband probandid animal animalid cow cowid donor "
    "donorid case caseid caseno casenr casenumber study studyid studyno studyuid studyinstanceuid exam examid "
    "examination examinationid accession accessionnumber"
)
# Parts of names of columns that tell people, examinations or recordings apart, and of columns that describe them.
_PATIENT_LIKE = words(
    "patient pacient pazient pasient subject subjekt sujet proband participant person individu animal donor "
    "accession lesion specimen biopsy slide series video clip mrn case study studie exam encounter 患者 病人"
)
_ATTRIBUTES = words(
    "age sex gender weight height date time birth position orientation race ethnic smok bmi status type desc view "
    "side site scanner device vendor manufactur model hospital center centre reader rater annotator class label "
    "image file mask fold split seed version"
)
_IDENTIFIERS = frozenset({"id", "ids", "uid", "nr", "no", "num", "number", "code"})
_PART_LIKE = ("train", "test", "split", "fold", "partition")
# What medzoo's own tables say beside file, label, patient and part.
_OWN = frozenset(
    {"group", "seed", "fingerprint", "origin", "generator", "weights_sha256", "source_image", "strength", "sha256"}
)

# How programs write that there is no value.
_MISSING = frozenset({"nan", "na", "n/a", "null", "none", "nil", "#n/a", "?"})


def part_of(name: str) -> str | None:
    """Return the part that a name stands for, "train", "val" or "test"; None for none or several, as in train_val."""
    words = set(_SEPARATORS.split(name.casefold()))
    found = [part for part, known in _PART_WORDS.items() if words & known]
    return found[0] if len(found) == 1 else None


def without_part(name: str) -> str:
    """Return what a name says beside its part: "_images" for "train_images", so that parts of one set are known."""
    words = re.split(f"({_SEPARATORS.pattern})", name.casefold())
    return "".join(word for word in words if not any(word in known for known in _PART_WORDS.values()))


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table that hold file, label, part and patient, as spelled there, and the others.

    `patient_like` are those of the `unused` that tell people or examinations apart, some of them with several images;
    `part_like` those that look like parts.
    """

    file: str
    label: str
    part: str | None = None
    patient: str | None = None
    unused: tuple[str, ...] = ()
    patient_like: tuple[str, ...] = ()
    part_like: tuple[str, ...] = ()

    def named(self) -> dict[str, str]:
        """Return the columns that are used, by what they hold."""
        found = {"file": self.file, "label": self.label, "part": self.part, "patient": self.patient}
        return {role: column for role, column in found.items() if column is not None}


def find_columns(path: object, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Columns:
    """Find the columns of a table by their names and, where several could be meant, by their values.

    `rows` hold the values by column. Raises: DataError where file or label are missing, or several columns could be.
    """
    by_key: dict[str, str] = {}
    for column in columns:
        if (key := _key(column)) in by_key and key:
            raise DataError(f"{path} has the columns '{by_key[key]}' and '{column}'", "rename or drop one of them")
        by_key[key] = column
    file = _pick(path, "file", by_key, _FILE, _FILE_TOO, ())
    label = _pick(path, "label", by_key, _LABEL, _LABEL_TOO, rows)
    if file is None or label is None:
        raise DataError(
            f"{path} needs the columns file and label; it has {', '.join(columns) or 'none'}",
            "its first line must be file,label[,patient][,split]; rename the columns that hold them",
        )
    part = _part_column(path, by_key, rows)
    patient = next((by_key[key] for key in _PATIENT if key in by_key and by_key[key] != file), None)
    unused = [column for column in columns if column not in (file, label, part, patient)]
    unused = [column for column in unused if column and _own_key(column) not in _OWN]
    return Columns(
        file=file,
        label=label,
        part=part,
        patient=patient,
        unused=tuple(unused),
        patient_like=tuple(name for name in unused if _separates_patients(name, rows, patient=patient, label=label)),
        part_like=tuple(name for name in unused if any(word in _key(name) for word in _PART_LIKE)),
    )


def _key(column: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", column).casefold())


def _own_key(column: str) -> str:
    return column.strip().casefold()


def _pick(
    path: object,
    role: str,
    by_key: Mapping[str, str],
    own: Sequence[str],
    too: Sequence[str],
    rows: Sequence[Mapping[str, str]],
) -> str | None:
    """Return the column of a role: medzoo's own spelling, else the only other one, or the first of equivalent ones."""
    for key in own:
        if key in by_key:
            return by_key[key]
    found = [by_key[key] for key in too if key in by_key]
    if len(found) > 1 and not (rows and all(_same_classes(rows, found[0], other) for other in found[1:])):
        raise DataError(
            f"{path} has several columns that may hold the {role}: {', '.join(found)}", f"rename one of them to {role}"
        )
    return found[0] if found else None


def _same_classes(rows: Sequence[Mapping[str, str]], first: str, other: str) -> bool:
    """Return whether two columns sort the rows into the same classes."""
    pairs = {(row[first], row[other]) for row in rows}
    return len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})


def _part_column(path: object, by_key: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> str | None:
    """Return the column of the parts. A column of another name than split counts if all its values are parts.

    Raises: DataError for a value that is no part, where others are; for two columns that disagree.
    """
    found: list[str] = []
    for key in (*_PART, *_PART_TOO):
        if (column := by_key.get(key)) is None:
            continue
        known = [part_of(row[column]) for row in rows if row[column]]
        if key in _PART or (known and any(known)):
            wrong = next((row for row in rows if row[column] and part_of(row[column]) is None), None)
            if wrong is not None:
                raise DataError(
                    f"{path} line {wrong[LINE]}: unknown {column} '{wrong[column]}'", "use train, val or test"
                )
            found.append(column)
    for other in found[1:]:
        if any(part_of(row[other]) != part_of(row[found[0]]) for row in rows):
            raise DataError(f"{path}: the columns '{found[0]}' and '{other}' name different parts", "drop one of them")
    return found[0] if found else None


def _separates_patients(name: str, rows: Sequence[Mapping[str, str]], *, patient: str | None, label: str) -> bool:
    """Return whether a column looks like one of patients and says more than the column used for them.

    It does not where each of its values is on one image, or lies within one patient.
    """
    key = _key(name)
    if any(word in key for word in _ATTRIBUTES) and not any(key.startswith(known) for known in ("patientid", "mrn")):
        return False
    last = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").replace(".", " ").split()
    identifier = bool(last) and last[-1].casefold() in _IDENTIFIERS
    if not (any(word in key for word in _PATIENT_LIKE) or identifier):
        return False
    values = [row[name] for row in rows if row[name]]
    distinct = set(values)
    if len(distinct) == len(values) or len(distinct) < 2 or _same_classes(rows, name, label):
        return False
    if patient is None:
        return True
    return len({(row[name], row[patient]) for row in rows if row[name]}) > len(distinct)


def class_name_issues(classes: Iterable[str]) -> list[str]:
    """Return a sentence for each class name that looks like a slip, such as two that may be one."""
    names = list(classes)
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    same = [group for group in alike.values() if len(group) > 1]
    issues = [f"class names that differ only in case, spaces or accents' encoding: {_quoted(group)}" for group in same]
    numbers: dict[float, list[str]] = {}
    for name in names:
        if (value := _number(name)) is not None:
            numbers.setdefault(value, []).append(name)
    equal = [group for group in numbers.values() if len(group) > 1]
    issues += [f"class names that are the same number: {_quoted(group)}" for group in equal]
    issues += [f"class name that may stand for a missing label: '{name}'" for name in names if is_missing(name)]
    issues += [f"class name that cannot be a folder's name: '{name}'" for name in names if not is_folder_name(name)]
    return issues


def is_missing(value: str) -> bool:
    """Return whether a value is how programs write that there is none: "", "nan", "N/A" and the like."""
    return value.strip().casefold() in _MISSING or not value.strip()


def is_folder_name(label: str) -> bool:
    """Return whether a class name can name a folder on every system and holds no '|', which joins names."""
    return bool(label) and not label.startswith(".") and not set(label) & {*"/\\\0\n\r|"}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
