"""Results as Markdown."""

from collections.abc import Sequence


def markdown_table(rows: Sequence[Sequence[object]]) -> str:
    """A table whose first row is the header; columns after the first are set to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    texts.insert(1, ["---"] + ["---:"] * (len(texts[0]) - 1))
    return "\n".join(f"| {' | '.join(row)} |" for row in texts)
