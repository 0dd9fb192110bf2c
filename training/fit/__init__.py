"""A project's data and pipeline: loading, sampling, evaluating."""
