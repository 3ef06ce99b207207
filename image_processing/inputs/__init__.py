"""What an image processor is given: images, annotations, sizes, and the arguments of saved processors."""
