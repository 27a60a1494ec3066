"""From a `DatasetSplit` to files of another format."""
