"""The command `maskformer`, as `pip install` sets it up: not in the package, whose import takes seconds."""

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


def main() -> None:
    """Runs commands/command_line.py from its file, so that only a subcommand imports the package."""
    package = Path(find_spec("modeling_maskformer").origin).parent
    spec = spec_from_file_location("maskformer_command_line", package / "commands" / "command_line.py")
    command_line = module_from_spec(spec)
    spec.loader.exec_module(command_line)
    command_line.main()


if __name__ == "__main__":
    main()
