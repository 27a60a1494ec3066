"""What several test files share: tiny models, made-up data, stand-ins."""
