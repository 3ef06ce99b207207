"""Where a run sends its logs: what transformers knows and what of it is installed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
    is_tensorboard_available,
)

_NOT_TOLD = ("flyte",)  # loggers of which transformers does not say whether they are installed


def default_loggers() -> list[str]:
    """TensorBoard where it is installed, as transformers' `report_to` has it."""
    return ["tensorboard"] if is_tensorboard_available() else ["none"]


def check_loggers(names: Sequence[str]) -> None:
    """Raises a ValueError if transformers knows no such logger, or it is not installed."""
    installed = [name for name in get_available_reporting_integrations() if name in INTEGRATION_TO_CALLBACK]
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            close = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(INTEGRATION_TO_CALLBACK)}."
            raise ValueError(f"report_to: there is no logger {name!r}: {hint}")
        if name not in installed and name not in _NOT_TOLD:
            raise ValueError(
                f"report_to {name}: {name} is not installed. Install it, or choose from what is there: "
                f"{', '.join([*installed, 'none'])}."
            )
