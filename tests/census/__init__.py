"""The census: shapes of pipelines that users have, and how each is served."""
