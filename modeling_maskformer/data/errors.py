"""The one error of everything that reads data."""


class DataError(ValueError):
    """A dataset that cannot be used as it is; the message names the sample or column and what was expected."""
