"""Private helpers that several packages share: files, the terminal, TOML, the home folder."""
