"""The one error of everything that reads data."""


class DataError(ValueError):
    """A dataset that cannot be used as it is; the message names the sample or column and what was expected."""

    @property
    def sentence(self) -> str:
        """The message, without the traceback that a process which reads images for this one has put before it."""
        return str(self).rpartition(f"{type(self).__name__}: ")[2].strip()


class WorkerError(RuntimeError):
    """A process that reads images for this one was lost, or has no memory left; the message says which."""

    sentence = DataError.sentence
