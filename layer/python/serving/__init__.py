"""What every Canoa function shares. Importing this loads nothing else."""

__version__ = "0.2.0"
