"""Files of other programs: a reader for each kind of file of 2D keypoints, a writer for each kind of file of poses."""
