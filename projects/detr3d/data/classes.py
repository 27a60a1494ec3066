"""nuScenes' ten detection classes: their categories, ranges and default attributes.

Source: Caesar et al., "nuScenes", 2020, arXiv:1903.11027, and its detection task of 2019.
"""

# In the order of the published weights' labels.
CLASSES = (
    *("car", "truck", "construction_vehicle", "bus", "trailer", "barrier"),
    *("motorcycle", "bicycle", "pedestrian", "traffic_cone"),
)
CLASS_OF_CATEGORY = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "movable_object.barrier": "barrier",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
}
# Of the data set, without a detection class.
OTHER_CATEGORIES = (
    *("animal", "human.pedestrian.personal_mobility", "human.pedestrian.stroller"),
    *("human.pedestrian.wheelchair", "movable_object.debris", "movable_object.pushable_pullable"),
    *("static_object.bicycle_rack", "vehicle.emergency.ambulance", "vehicle.emergency.police"),
)
BICYCLE_RACK = "static_object.bicycle_rack"
# Greatest distance from the ego vehicle in metres at which a class is evaluated.
CLASS_RANGE = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), 50.0),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle"), 40.0),
    **dict.fromkeys(("traffic_cone", "barrier"), 30.0),
}
ATTRIBUTES = (
    *("vehicle.moving", "vehicle.stopped", "vehicle.parked"),
    *("cycle.with_rider", "cycle.without_rider"),
    *("pedestrian.moving", "pedestrian.standing", "pedestrian.sitting_lying_down"),
)
DEFAULT_ATTRIBUTE = {
    **dict.fromkeys(("car", "trailer", "truck", "construction_vehicle"), "vehicle.parked"),
    "bus": "vehicle.moving",
    "pedestrian": "pedestrian.moving",
    **dict.fromkeys(("bicycle", "motorcycle"), "cycle.without_rider"),
    **dict.fromkeys(("barrier", "traffic_cone"), ""),
}
MOVING_ATTRIBUTE = {
    **dict.fromkeys(("car", "construction_vehicle", "bus", "truck", "trailer"), "vehicle.moving"),
    **dict.fromkeys(("bicycle", "motorcycle"), "cycle.with_rider"),
}
STANDING_ATTRIBUTE = {"pedestrian": "pedestrian.standing", "bus": "vehicle.stopped"}
MOVING_SPEED = 0.2  # m/s


def attribute_of(name: str, speed: float) -> str:
    """Return the attribute that the authors submit for a class at a speed in m/s."""
    known = MOVING_ATTRIBUTE if speed > MOVING_SPEED else STANDING_ATTRIBUTE
    return known.get(name, DEFAULT_ATTRIBUTE[name])
