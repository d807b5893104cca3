"""The leaderboard, which is made from records and nothing else."""
