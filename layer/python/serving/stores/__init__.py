"""Where bundles lie: a folder, or a bucket in an object store."""
