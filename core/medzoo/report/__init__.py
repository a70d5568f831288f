"""Reports people look at: one self-contained HTML file, and beside it the same as PNG, CSV and JSON."""
