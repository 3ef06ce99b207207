"""Generated input of every kind: a result or the project's own error comes out, and nothing else. See __main__.py."""
