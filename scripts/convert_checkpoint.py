"""Reads a checkpoint of the original, as `maskformer convert` does."""

from modeling_maskformer.commands.convert import main

if __name__ == "__main__":
    main()
