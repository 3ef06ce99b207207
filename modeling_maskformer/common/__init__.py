"""What all architectures have in common: fields of configs, checks of inputs, images of any size, the pixel level."""
