"""Rollups in place of raw samples: when they can stand for them, where they hold, what they say."""
