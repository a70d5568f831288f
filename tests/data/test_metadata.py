"""Tables are read as spreadsheets of any country save them, and a stranger's metadata.csv is left alone."""

from __future__ import annotations

import codecs

import pytest

from medzoo.data.metadata import LINE, read_metadata, read_table
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
    "content",
    [
        b"",
        b"file_name,finding\nx,cyst \xfcber 1 cm\n",
        b"file_name;age\n1\n",
        b"old_file_name,origin\n1,2\n",
        b"\0\0\xff",
        b'a,"b\n',
    ],
)
def test_read_metadata_of_another_program(tmp_path, content):
    (tmp_path / "metadata.csv").write_bytes(content)
    assert read_metadata(tmp_path) == {}
    assert read_metadata(tmp_path / "missing") == {}


def test_read_metadata_in_another_encoding(tmp_path):
    saved(tmp_path, encoding="cp1252")
    assert read_metadata(tmp_path)["a/synthetic-gän-000000.png"]["origin"] == "synthetic"
    (tmp_path / "metadata.csv").write_bytes(b"file_name,origin\na\x81.png,real\n")
    with pytest.raises(DataError, match="not a CSV in UTF-8"):
        read_metadata(tmp_path)


def test_read_metadata_after_excels_first_line(tmp_path):
    saved(tmp_path, separator=";", lines=["sep=,", *LINES])
    assert len(read_metadata(tmp_path)) == 2


def test_read_table_rows(tmp_path):
    path = tmp_path / "set.csv"
    path.write_bytes(codecs.BOM_UTF8 + b'File;Label \n"a;1.png"; x\n\n;\nb.png;y;;\n;\n')
    table = read_table(path)
    assert table.columns == ("File", "Label")
    assert table.rows == (
        {"File": "a;1.png", "Label": "x", LINE: "2"},
        {"File": "b.png", "Label": "y", LINE: "5"},
    )
    assert table.notes == ("separated by semicolons",)


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (b"file,label\ra,b\r", ()),
        (b'"file, or image",label\na,b\n', ()),
        (b"file\tlabel\na,1\tb\n", ("separated by tabs",)),
        (b"sep=|\nfile|label\na|b\n", ("separated by '|'",)),
        (
            "file;label\na;gänsehaut\n".encode("cp1252"),
            ("separated by semicolons", "read as Windows-1252, for it is not UTF-8"),
        ),
        ("file,label\na,b\n".encode("utf-16"), ("in UTF-16",)),
    ],
)
def test_read_table_dialects(tmp_path, content, notes):
    (tmp_path / "set.csv").write_bytes(content)
    table = read_table(tmp_path / "set.csv")
    assert len(table.columns) == 2
    assert [row[table.columns[1]] for row in table.rows] == [table.rows[0][table.columns[1]]]
    assert table.notes == notes


@pytest.mark.parametrize("line", ["x", "x,y,z"])
def test_read_table_of_ragged_rows(tmp_path, line):
    path = tmp_path / "set.csv"
    path.write_text(f"file,label\na.png,a\n{line}\n")
    with pytest.raises(DataError, match="line 3 has more or fewer values"):
        read_table(path)
