"""Many runs beside each other: suites, the grid, statistics, leaderboard, figures."""
