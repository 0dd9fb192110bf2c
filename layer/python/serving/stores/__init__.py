"""The stores of bundles: a folder, or a bucket in an object store."""
