"""What every native endpoint shares: routes, dispatch, parameters, problems, OpenAPI."""
