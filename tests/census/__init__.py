"""The census: shapes of pipelines that people have, and how each is served."""
