"""The resource `/corrections`: deleting, replacing, scaling and renaming stored samples."""
