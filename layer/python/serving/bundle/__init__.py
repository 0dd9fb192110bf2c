"""The artifact: its manifest, its files, the `latest` file, signatures and trust."""
