"""Measures a checkpoint, as `maskformer evaluate` does."""

from modeling_maskformer.commands.evaluate import main

if __name__ == "__main__":
    main()
