"""Listeners of protocols that are not HTTP: Graphite's plaintext and StatsD, over UDP and TCP."""
