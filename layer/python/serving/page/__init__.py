"""The model's page: one HTML file, made from the manifest, that fetches nothing from elsewhere."""
