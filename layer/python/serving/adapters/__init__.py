"""One file per platform: how its requests reach the functions."""
