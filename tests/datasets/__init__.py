"""Names that tests of data sets try."""


def each(names: str) -> list[str]:
    """The names in a text, separated by bars."""
    return names.split("|")
