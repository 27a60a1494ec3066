"""nuScenes' detection metric, its submission files and the evaluator."""
