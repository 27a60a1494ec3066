"""nuScenes' data: reading, conversion, checks, the made-up set and the dataset mapper."""
