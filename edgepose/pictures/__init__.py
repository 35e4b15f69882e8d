"""From a video, a camera or a picture to the keypoints of a person."""
