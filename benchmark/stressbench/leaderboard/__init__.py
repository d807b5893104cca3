"""The leaderboard, generated from records alone."""
