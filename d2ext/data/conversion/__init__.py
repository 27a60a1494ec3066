"""From a `Source` to files of another format."""
