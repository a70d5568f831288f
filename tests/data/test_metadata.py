"""Tables are read as spreadsheets of any country save them, and a stranger's metadata.csv is left alone."""

from __future__ import annotations

import codecs

import pytest

from medzoo.data.metadata import read_metadata, read_table
from medzoo.errors import DataError

LINES = ["file_name,label,origin", "a/1.png,a,real", "a/synthetic-gän-000000.png,a,synthetic"]


def saved(folder, *, separator=",", encoding="utf-8", ends="\n", lines=LINES):
    path = folder / "metadata.csv"
    path.write_bytes(ends.join([*lines, ""]).replace(",", separator).encode(encoding))
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", " ; "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_read_metadata_dialects(tmp_path, separator, encoding):
    saved(tmp_path, separator=separator, encoding=encoding, ends="\r\n")
    rows = read_metadata(tmp_path)
    assert {name: row["origin"] for name, row in rows.items()} == {
        "a/1.png": "real",
        "a/synthetic-gän-000000.png": "synthetic",
    }


def test_read_metadata_of_a_table(tmp_path):
    table = saved(tmp_path)
    (tmp_path / "files.csv").write_text("file,label\na/1.png,a\n")
    assert read_metadata(table) == read_metadata(tmp_path / "files.csv") == read_metadata(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"file_name,finding\nx,cyst \xfcber 1 cm\n", b"file_name;age\n1\n", b"\0\0\xff", b'a,"b\n']
)
def test_read_metadata_of_another_program(tmp_path, content):
    (tmp_path / "metadata.csv").write_bytes(content)
    assert read_metadata(tmp_path) == {}
    assert read_metadata(tmp_path / "missing") == {}


def test_read_metadata_in_another_encoding(tmp_path):
    saved(tmp_path, encoding="latin-1")
    with pytest.raises(DataError, match="not a CSV in UTF-8"):
        read_metadata(tmp_path)


def test_read_table_rows(tmp_path):
    path = tmp_path / "set.csv"
    path.write_bytes(codecs.BOM_UTF8 + b'File;Label \n"a;1.png"; x\n\n;\nb.png;y\n;\n')
    assert read_table(path) == (
        ["file", "label"],
        [{"file": "a;1.png", "label": "x", "line": "2"}, {"file": "b.png", "label": "y", "line": "5"}],
    )


@pytest.mark.parametrize("line", ["x", "x,y,z"])
def test_read_table_of_ragged_rows(tmp_path, line):
    path = tmp_path / "set.csv"
    path.write_text(f"file,label\na.png,a\n{line}\n")
    with pytest.raises(DataError, match="line 3 has more or fewer values"):
        read_table(path)
