"""The claims: `rules` says them, `judge` measures them, `runs` keeps the reference runs, `board` tells."""
