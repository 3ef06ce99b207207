"""What can be wrong with a checkpoint of the original."""


class CheckpointError(ValueError):
    """The file cannot be converted; the message says what was found and what was expected."""


class UnsafeCheckpointError(CheckpointError):
    """The pickle asks for more than arrays and plain containers. Nothing of it was executed."""


class LayoutError(CheckpointError):
    """The names or shapes in the file are not those of a model of the original."""
