"""Go's text/template for labels and annotations of alerts."""
