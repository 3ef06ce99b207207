"""What to say of an error that a library has raised."""


def first_line(error: BaseException) -> str:
    """The first line of its message, without a full stop; where it has none, its class."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
