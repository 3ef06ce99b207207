"""Results and annotations -> pictures: colours, contours, names."""
