"""Who may call, and how often: keys, tokens, the rate limit, CORS."""
