"""Segments pictures, as `maskformer predict` does."""

from modeling_maskformer.commands.predict import main

if __name__ == "__main__":
    main()
