"""What every function shares. Importing this package loads nothing else and reads nothing."""
