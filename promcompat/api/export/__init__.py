"""The endpoints that give samples away: export, federation and remote read."""
