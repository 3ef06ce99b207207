"""`python -m modeling_maskformer train ...`: the command `maskformer`, where that is not on the path."""

from .commands.command_line import main

if __name__ == "__main__":
    main(program="python -m modeling_maskformer")
