"""Go's text/template, as alert annotations use it."""
