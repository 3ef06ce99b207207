"""What the command line of the scripts takes."""
