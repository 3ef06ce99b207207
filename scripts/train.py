"""Trains on your own data, as `maskformer train` does."""

from modeling_maskformer.commands.train import main

if __name__ == "__main__":
    main()
