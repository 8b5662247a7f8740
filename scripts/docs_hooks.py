"""For `make docs`: links to files outside docs/ become links to the repository."""

import re


def on_page_markdown(markdown, *, config, **kwargs):
    """mkdocs calls this with the text of each page."""
    return re.sub(r"\]\(\.\./", f"]({config.repo_url}/blob/main/", markdown)
