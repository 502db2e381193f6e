"""Scraping of targets, as Prometheus does it: configuration, discovery, loops, staleness."""
