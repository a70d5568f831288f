"""The workbench of `medzoo app`: its server, its jobs, and its pages. Gradio is imported where pages are built."""
