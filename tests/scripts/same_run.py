"""Whether two runs of a script came to the same end."""

import json

from safetensors.torch import load_file


def assert_same_run(folder, expected):
    """The same weights to the last bit, and the same log but for what tells the time."""
    weights, others = (load_file(path / "model.safetensors") for path in (folder, expected))
    assert weights.keys() == others.keys()
    assert all(bool((weights[name] == others[name]).all()) for name in weights)
    logs = []
    for path in (folder, expected):
        history = json.loads((path / "trainer_state.json").read_text())["log_history"]
        logs.append(
            [
                {name: value for name, value in entry.items() if not name.endswith(("second", "runtime", "_data"))}
                for entry in history
                if "train_runtime" not in entry
            ]
        )
    assert logs[0] == logs[1]
    assert not list(folder.glob("unfinished-*"))
