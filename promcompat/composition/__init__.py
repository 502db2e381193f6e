"""The composition root: settings become storage and services. What runs them is in `processes`."""
