"""The offline job: fits a pipeline and writes the bundle. Never runs in a function."""
