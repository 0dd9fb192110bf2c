"""What answers: the schema of requests, the engines, and the form of predictions."""
