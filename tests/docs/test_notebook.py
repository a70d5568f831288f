"""The notebook is stored without outputs, and runs from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "augment.ipynb"


def test_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]


# Jupyter's libraries warn of event loops and of paths that they will change.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (work := tmp_path / "work").mkdir()
    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(book, timeout=None, resources={"metadata": {"path": str(work)}}).execute()
    printed = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", ()))
    assert "normal: 10 real, 2 synthetic" in printed
    assert "augmented: balanced accuracy" in printed
    assert (work / "augmented" / "metadata.csv").is_file()
