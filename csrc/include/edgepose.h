/* edgepose without Python: 2D keypoints in, 3D joints out, frame by frame.
 *
 * An engine is a loaded native .epose file; a stream is one person in front of one camera, people are everybody there.
 * Metres and camera axes (x right, y down, z forward); joints relative to the pelvis, unless said otherwise.
 *
 * Every function that can fail returns a status: 0 for success, EDGEPOSE_NO_POSE where there is no new pose, and less
 * than 0 for an error, whose text is edgepose_error(). A call that fails changes nothing but that text. No function
 * throws, prints or ends the process. Null is refused unless the function says that it accepts null.
 *
 * Threads: an engine may be used by many threads at once. A stream, or people, may move between threads, but only one
 * may use it at a time: a concurrent call returns EDGEPOSE_BUSY and changes nothing. None of them may be used in the
 * child of a fork if the engine has more than one thread.
 *
 * Versions: functions and constants are only ever added while EDGEPOSE_ABI_VERSION stays. A struct that may grow begins
 * with its size, which its _INIT macro sets: a library newer than the program uses defaults for the members that the
 * program's struct lacks, and writes nothing past its end; an older one refuses a struct larger than it knows. No
 * struct ends in padding, so that every new member makes it larger. */
#ifndef EDGEPOSE_H
#define EDGEPOSE_H

#include <stddef.h>
#include <stdint.h>

#define EDGEPOSE_ABI_VERSION 1

#ifndef EDGEPOSE_API
#define EDGEPOSE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum edgepose_status {
  EDGEPOSE_OK = 0,
  EDGEPOSE_NO_POSE = 1,       /* not an error: see edgepose_stream_push */
  EDGEPOSE_BAD_ARGUMENT = -1, /* an argument does not fit; the text says what came and what was wanted */
  EDGEPOSE_BAD_ENGINE = -2,   /* the file cannot be read, is damaged, or is for another machine or backend */
  EDGEPOSE_NO_MEMORY = -3,
  EDGEPOSE_FAILED = -4, /* the system refused a request, for threads for example */
  EDGEPOSE_BUSY = -5    /* another thread is in a call with the same stream */
} edgepose_status;

typedef struct edgepose_engine edgepose_engine;
typedef struct edgepose_stream edgepose_stream;
typedef struct edgepose_people edgepose_people;
typedef struct edgepose_kinematics edgepose_kinematics;
typedef struct edgepose_floor edgepose_floor;

/* The EDGEPOSE_ABI_VERSION that the library was built with: a program should compare it with its own. */
EDGEPOSE_API uint32_t edgepose_abi_version(void);

/* The library's version, "0.1.0". */
EDGEPOSE_API const char* edgepose_version(void);

/* The error text of the last failed call in the calling thread; "" if none failed. Valid until the next failure in this
 * thread. */
EDGEPOSE_API const char* edgepose_error(void);

/* ---- engines ---- */

typedef struct edgepose_engine_options {
  uint32_t size;
  int32_t threads; /* 1 to 256: how many work on one call, the caller included */
  const char* isa;     /* the instruction set of the kernels; null: the environment's EDGEPOSE_ISA, else this CPU's
                          best */
  const int32_t* cpus; /* the processors that all threads but the caller's are pinned to, one each; read by
                          edgepose_engine_open alone */
  size_t cpu_count;    /* length of cpus, less than threads; 0: no thread is pinned */
} edgepose_engine_options;
#define EDGEPOSE_ENGINE_OPTIONS_INIT {sizeof(edgepose_engine_options), 1, NULL, NULL, 0}

/* Loads the native .epose file at `path` and checks all of it. options: null for the defaults. On success *engine is to
 * be closed with edgepose_engine_close; on an error it is null. */
EDGEPOSE_API edgepose_status edgepose_engine_open(const char* path, const edgepose_engine_options* options,
                                                  edgepose_engine** engine);

/* Frees an engine; null is allowed. Its streams may outlive it. No call with it may be in progress. */
EDGEPOSE_API void edgepose_engine_close(edgepose_engine* engine);

/* Properties of an engine. Texts live as long as it. For a null engine, or a joint that does not exist: 0, -1 or null,
 * as noted. */
EDGEPOSE_API int32_t edgepose_engine_frames(const edgepose_engine* engine);        /* T, the frames of a window; 0 */
EDGEPOSE_API int32_t edgepose_engine_joints(const edgepose_engine* engine);        /* J; 0 */
EDGEPOSE_API int32_t edgepose_engine_is_causal(const edgepose_engine* engine);     /* 1: for the newest frame; 0 */
EDGEPOSE_API double edgepose_engine_rate_hz(const edgepose_engine* engine);        /* of its training; 0: unknown */
EDGEPOSE_API const char* edgepose_engine_model(const edgepose_engine* engine);     /* "ampose"; null */
EDGEPOSE_API const char* edgepose_engine_precision(const edgepose_engine* engine); /* of the weights, "fp16"; null */
EDGEPOSE_API const char* edgepose_engine_isa(const edgepose_engine* engine);       /* of its kernels, "avx2"; null */
EDGEPOSE_API const char* edgepose_engine_skeleton(const edgepose_engine* engine);  /* "h36m17"; null */
/* A joint's name, "left_knee"; null. */
EDGEPOSE_API const char* edgepose_engine_joint(const edgepose_engine* engine, int32_t joint);
/* A joint's parent; -1, also for the root. */
EDGEPOSE_API int32_t edgepose_engine_parent(const edgepose_engine* engine, int32_t joint);

/* Lifts windows of the model's own joints: pose_m[people][J][3] from keypoints_norm[people][T][J][2].
 * keypoints_norm: normalised screen, x_px / width * 2 - 1 and y_px / width * 2 - height / width. The lengths count
 * floats and must be people * T * J * 2 and people * J * 3. Streams do this and all steps before it; this function is
 * for programs with their own. A row's answer does not depend on the others, to the bit. */
EDGEPOSE_API edgepose_status edgepose_engine_run(const edgepose_engine* engine, size_t people,
                                                 const float* keypoints_norm, size_t keypoints_length, float* pose_m,
                                                 size_t pose_length);

/* ---- streams ---- */

/* Handling of a frame whose time is not later than the last one's, as after a clock step or when a recording starts
 * again. */
typedef int32_t edgepose_on_bad_time;
enum {
  EDGEPOSE_REFUSE_BAD_TIME = 0, /* EDGEPOSE_BAD_ARGUMENT */
  EDGEPOSE_DROP_BAD_TIME = 1,   /* EDGEPOSE_NO_POSE: the frame is left out */
  EDGEPOSE_RESET_AT_BAD_TIME = 2 /* an earlier time begins another recording; a frame that repeats a time is left out */
};

#define EDGEPOSE_LENGTHS 7
#define EDGEPOSE_DISTORTIONS 8

typedef struct edgepose_stream_options {
  uint32_t size;
  int32_t delay_frames;  /* how many later frames of the grid to wait for: 0 to (T - 1) / 2, 0 for a causal engine */
  double rate_hz;        /* the grid of a window of many frames; EDGEPOSE_FILE_RATE: the one that the model was trained
                            on, 50 where its file does not say; at most 1000; 0: every
                            frame as it comes */
  double max_gap_s;      /* how long a missing person's last frame is repeated; a longer gap, or another person,
                            ends a clip. Its frames that wait are answered with the next pushes, as if nothing came
                            after */
  double seen_above;     /* the least confidence of a joint that counts as seen; EDGEPOSE_MODEL_SEEN_ABOVE: 0.05 for a
                            model that takes the confidence, 0.3 for others */
  double hold_s;         /* how long a hidden joint keeps its offset to its parent; then knees and ankles fall back
                            to it */
  double min_cutoff_hz;  /* a One Euro filter on the joints: its cutoff at rest; 0: no filter */
  double beta;           /* how much the cutoff rises with speed, Hz per m/s */
  double d_cutoff_hz;    /* the cutoff of the speed itself */
  double fx, fy, cx, cy; /* the lens, px: gives poses their place, root_m; all 0: not known */
  edgepose_on_bad_time on_bad_time; /* for a frame whose time is not later than the last one's */
  int32_t mend_sides;               /* 1: left and right are exchanged back where the detector exchanges them between
                                       two frames; 0: they are used as they come */
  double lengths_m[EDGEPOSE_LENGTHS]; /* the person's own lengths, for an engine that takes them; 0: not known. In this
                                         order: upper arm, forearm, thigh, shank, width of the shoulders, width of the
                                         hips, trunk (from the middle of the hips to that of the shoulders) */
  double gravity[3]; /* the direction of gravity in camera axes (x right, y down, z forward), (0, 1, 0) for a level
                        camera, for an engine that takes it, as posemlp; the lens must be known too. All 0: not known */
  double deadline_ms;  /* the most time that a push may take. Whom the engine would lift too late, by the time of its
                          last calls, it does not: their poses are predicted, for at most 0.1 s on, and then held; see
                          edgepose_pose. 0: no limit */
  double distortion[EDGEPOSE_DISTORTIONS]; /* of the lens, in OpenCV's order: k1, k2, p1, p2, k3, k4, k5, k6; all 0: the
                                              keypoints have none */
  double height_m; /* the person's standing height, 0.5 to 2.5, which sets the size of poses; 0: the model's size.
                      EDGEPOSE_LEARN_HEIGHT: the size is learnt from a depth camera, for which the lens must be known */
  int32_t constant_bones; /* 1: the person's bones keep their lengths, which are learnt from the poses; those of limbs
                             and hips that are in lengths_m are taken from there */
  int32_t reserved;       /* 0 */
} edgepose_stream_options;
#define EDGEPOSE_FILE_RATE (-1.0)
#define EDGEPOSE_MODEL_SEEN_ABOVE (-1.0)
#define EDGEPOSE_LEARN_HEIGHT (-1.0)
#define EDGEPOSE_STREAM_OPTIONS_INIT                                                                           \
  {sizeof(edgepose_stream_options), 0, EDGEPOSE_FILE_RATE, 0.5, EDGEPOSE_MODEL_SEEN_ABOVE, 0.3, 0.0, 0.0, 1.0, \
   0.0, 0.0, 0.0, 0.0, EDGEPOSE_REFUSE_BAD_TIME, 1, {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}, {0.0, 0.0, 0.0}, 0.0, \
   {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}, 0.0, 0, 0}

/* One person at one moment. The arrays belong to the stream and are valid until its next push, reset or close. */
typedef struct edgepose_pose {
  uint32_t size;
  int32_t joints;              /* J */
  int32_t was_reset;           /* 1: the first pose, or the first after a gap or a jump: the past was forgotten */
  double timestamp_s;          /* the time of the pose's frame; with a delay or a grid not the one just pushed */
  const float* joints_m;       /* (J, 3) metres from the pelvis */
  const float* keypoints_norm; /* (J, 2) where the joints were in that frame, in normalised screen coordinates */
  const float* confidence;     /* (J,) in that frame; 0 where the person was not detected */
  const uint8_t* is_seen;      /* (J,) 1: seen; 0: the stream estimated the joint's position */
  const float* error_m;        /* (J,) predicted standard deviation of each joint's distance; null: the model predicts
                                  none */
  double predicted_s;          /* above 0: the engine did not lift this frame, because of deadline_ms: the joints are
                                  predicted from the last poses, which are so much older */
  const double* root_m;        /* (3,) the root in front of the camera, metres, camera axes, its depth filtered over
                                  time; null: not known, as without a lens */
  const double* root_error_m;  /* (3,) standard deviations of root_m; null with it */
} edgepose_pose;
#define EDGEPOSE_POSE_INIT {sizeof(edgepose_pose), 0, 0, 0.0, NULL, NULL, NULL, NULL, NULL, 0.0, NULL, NULL}

#define EDGEPOSE_NOT_DETECTED INT32_MIN

/* A keypoint that a joint of the model comes from. This struct never grows. */
typedef struct edgepose_source {
  const char* joint; /* its name, "left_knee": see edgepose_engine_joint */
  int32_t keypoint;  /* its index among the detector's, from 0; EDGEPOSE_NOT_DETECTED: the detector does not give the
                        joint */
  double weight_x, weight_y;
} edgepose_source;

/* A layout for your own detector. Each joint is the weighted sum of its sources and has the least of their confidences;
 * its weights sum to 1 for x and for y. The nose may be left out: it is then half way between thorax and head. A joint
 * that the detector does not give, as the legs of a person at a desk, has one source, EDGEPOSE_NOT_DETECTED; a hip or
 * both shoulders must be given. */
typedef struct edgepose_layout {
  uint32_t size;
  int32_t keypoints; /* the number that the detector gives */
  const char* name;  /* for messages */
  const edgepose_source* sources;
  size_t source_count;
} edgepose_layout;
#define EDGEPOSE_LAYOUT_INIT {sizeof(edgepose_layout), 0, NULL, NULL, 0}

/* A stream for one person. layout: the detector's keypoints: "coco17", "coco17-demo", "halpe26", "body25", "body25b",
 * "mediapipe33", "openpose18", "wholebody133", "mpii16", "h36m17", "h36m16"; for another detector see
 * edgepose_stream_open_layout. width_px, height_px: of the whole picture. options: null for the defaults. On success
 * *stream is to be closed with edgepose_stream_close; on an error it is null. */
EDGEPOSE_API edgepose_status edgepose_stream_open(const edgepose_engine* engine, const char* layout, double width_px,
                                                  double height_px, const edgepose_stream_options* options,
                                                  edgepose_stream** stream);

/* The same for your own detector; `layout` and what it points to need not outlive the call. */
EDGEPOSE_API edgepose_status edgepose_stream_open_layout(const edgepose_engine* engine, const edgepose_layout* layout,
                                                         double width_px, double height_px,
                                                         const edgepose_stream_options* options,
                                                         edgepose_stream** stream);

/* Takes one camera frame. keypoints_px: rows of x, y, or with 3 columns x, y, confidence, in the order of the layout;
 * for an engine that takes depths, as posemlp, or with a lens also with 4, the last the depth that a camera measured at
 * the keypoint, in m along its axis; 0, NaN or infinite: not measured. A keypoint of confidence 0 may hold anything,
 * NaN too. (0, 0), (-1, -1), (NaN, NaN) and a negative confidence mean a keypoint that was not found, one outside of
 * the picture counts as not seen, and a confidence a little above 1 as 1. Null: the person was not detected; keypoints
 * and columns are then not read. timestamp_s: seconds on any clock, later than the last and at most 1e15 from 0.
 * EDGEPOSE_OK: *pose is filled. EDGEPOSE_NO_POSE: until hips or shoulders have been seen once, while the first
 * delay_frames come in, for a frame between two points of the grid, and after a gap of max_gap_s when no frame waits;
 * *pose is unchanged. Allocates nothing, unless more threads than ever before run the engine at once. */
EDGEPOSE_API edgepose_status edgepose_stream_push(edgepose_stream* stream, const float* keypoints_px, size_t keypoints,
                                                  size_t columns, double timestamp_s, edgepose_pose* pose);

/* One person's keypoints in one picture, as edgepose_stream_push takes them. This struct never grows. */
typedef struct edgepose_frame {
  const float* keypoints_px; /* null: not detected */
  size_t keypoints, columns;
  double timestamp_s;
} edgepose_frame;

/* edgepose_stream_push for many people, with one engine call: a frame and a pose for each stream, in their
 * order. All streams belong to one engine and each comes once. The shortest deadline_ms of the streams holds for all.
 * Each pose begins with EDGEPOSE_POSE_INIT; if person i has no new pose, poses[i].joints becomes 0 and the rest is
 * unchanged. EDGEPOSE_OK: someone has a new pose; EDGEPOSE_NO_POSE: nobody has. An error names the person, counted from
 * 0, and then no stream is changed. Allocates. */
EDGEPOSE_API edgepose_status edgepose_push_many(edgepose_stream* const* streams, size_t people,
                                                const edgepose_frame* frames, edgepose_pose* poses);

/* The recording has ended: like a push, for the next of the frames that delay_frames kept waiting; the last frame is
 * repeated for those after it. EDGEPOSE_NO_POSE when none waits: the stream is then reset. Until then it refuses
 * frames. */
EDGEPOSE_API edgepose_status edgepose_stream_flush(edgepose_stream* stream, edgepose_pose* pose);

/* The position of a pose's root in front of the camera, root_m[3] in metres and camera axes: least-squares fit of
 * joints_m[joints][3], relative to the root, to the keypoints[joints][2]. confidence[joints]: their
 * weights; 0 leaves one out. fx, fy, cx, cy: the lens in the unit of the keypoints. For a stream's pose: its
 * joints_m, keypoints_norm and confidence with 2 fx / width, 2 fy / width, 2 cx / width - 1 and (2 cy - height) /
 * width; or, if the stream has the lens, with EDGEPOSE_H36M_FOCAL, EDGEPOSE_H36M_FOCAL, 0 and 0. The relative
 * error of the distance is that of the pose's size. EDGEPOSE_BAD_ARGUMENT also if the joints do not determine the
 * position: fewer than two, or all in one point. */
#define EDGEPOSE_H36M_FOCAL 2.29
EDGEPOSE_API edgepose_status edgepose_root_translation(size_t joints, const float* joints_m, const float* keypoints,
                                                       const float* confidence, double fx, double fy, double cx,
                                                       double cy, double* root_m);

/* The depth at the pixel x, y of a depth picture, depths[height][width]: the median of what was measured within
 * reach_px of it along either axis, 10 at most. NaN where nothing was measured (0, NaN or infinite), outside the
 * picture, and for null: as the fourth column of edgepose_stream_push takes it. */
EDGEPOSE_API double edgepose_depth_at(const float* depths, size_t width, size_t height, double x_px, double y_px,
                                      int32_t reach_px);

/* Gives the poses of a whole recording constant bones: joints_m[frames][J][3], one person's, is changed in place. The
 * lengths are learnt from all poses; those of limbs and hips in lengths_m[EDGEPOSE_LENGTHS] are taken from there; null
 * or 0: not known. A stream does this as poses come: see constant_bones. */
EDGEPOSE_API edgepose_status edgepose_hold_bones(const edgepose_engine* engine, const double* lengths_m,
                                                 float* joints_m, size_t frames);

/* ---- axes ---- */

/* Where camera coordinates (x right, y down, z forward) lie in other ones: p = rotation p_camera + origin_m. The origin
 * is the camera's place. This struct never grows. */
typedef struct edgepose_axes {
  double rotation[9]; /* (3, 3), row after row */
  double origin_m[3];
} edgepose_axes;

/* "camera", "opencv" and "ros_optical": the camera's own axes. "ros_body" (REP 103): x forward, y left, z up. "y_up": x
 * right, y up, z towards the camera. */
EDGEPOSE_API edgepose_status edgepose_axes_named(const char* name, edgepose_axes* axes);

/* The world of a calibrated camera: p_camera = rotation[3][3] p_world + translation[3], as OpenCV has it. */
EDGEPOSE_API edgepose_status edgepose_axes_of_camera(const double* rotation, const double* translation,
                                                     edgepose_axes* axes);

/* A z-up world below a camera that is height_m above its origin: x is the camera's forward direction, y its left one,
 * both level. gravity[3]: where it points in camera axes, (0, 1, 0) for a level camera. */
EDGEPOSE_API edgepose_status edgepose_axes_of_gravity(const double* gravity, double height_m, edgepose_axes* axes);

/* Moves points[count][3] from camera coordinates to these axes, in place. is_relative: 1: directions and joints
 * relative to the root are only turned. */
EDGEPOSE_API edgepose_status edgepose_axes_move(const edgepose_axes* axes, float* points, size_t count,
                                                int32_t is_relative);

/* The floor by the feet that stand on it: a plane through the lower ankle of each pose; where the ankles do not show
 * its slope it is taken from how upright people stand, or from gravity[3] in camera axes; null: not known. To be closed
 * with edgepose_floor_close. */
EDGEPOSE_API edgepose_status edgepose_floor_open(const edgepose_engine* engine, const double* gravity,
                                                 edgepose_floor** floor);
EDGEPOSE_API edgepose_status edgepose_floor_add(edgepose_floor* floor, const float* joints_m, const double* root_m);
/* A z-up world with z = 0 on the floor and the camera above the origin. EDGEPOSE_BAD_ARGUMENT before the first pose. */
EDGEPOSE_API edgepose_status edgepose_floor_axes(const edgepose_floor* floor, edgepose_axes* axes);
EDGEPOSE_API edgepose_status edgepose_floor_reset(edgepose_floor* floor);
EDGEPOSE_API void edgepose_floor_close(edgepose_floor* floor);

/* ---- kinematics ---- */

/* A moment of one person. The arrays belong to the kinematics and are valid until its next update, reset or close. */
typedef struct edgepose_movement {
  uint32_t size;
  int32_t joints;             /* J */
  const double* rotations;    /* (J, 4) unit quaternions w, x, y, z: of the bone that ends in each joint, relative to
                                 the bone before it; of the root: the pelvis in camera axes. All are (1, 0, 0, 0) for a
                                 person who stands upright, faces the camera and stretches the arms out sideways */
  const double* angles_deg;   /* in the order of edgepose_angle_name */
  const double* velocity_m_s; /* (J, 3), low-passed; 0 in the first pose */
  double centre_of_mass_m[3]; /* from the root */
} edgepose_movement;
#define EDGEPOSE_MOVEMENT_INIT {sizeof(edgepose_movement), 0, NULL, NULL, NULL, {0.0, 0.0, 0.0}}

/* The angles, "left_knee_flexion", and their ranges in degrees: docs/angles.md explains them. Null after the last;
 * EDGEPOSE_BAD_ARGUMENT for an angle that does not exist. */
EDGEPOSE_API const char* edgepose_angle_name(size_t angle);
EDGEPOSE_API edgepose_status edgepose_angle_range(size_t angle, double* least_deg, double* most_deg);

/* For one person's poses from an engine. To be closed with edgepose_kinematics_close. */
EDGEPOSE_API edgepose_status edgepose_kinematics_open(const edgepose_engine* engine, edgepose_kinematics** kinematics);

/* Takes a pose, joints_m[J][3] of a stream; root_m[3]: a pose's, null: unknown, velocities are then from the root. A
 * time that is not later than the last begins anew. */
EDGEPOSE_API edgepose_status edgepose_kinematics_update(edgepose_kinematics* kinematics, const float* joints_m,
                                                        const double* root_m, double timestamp_s,
                                                        edgepose_movement* movement);
EDGEPOSE_API edgepose_status edgepose_kinematics_reset(edgepose_kinematics* kinematics);
EDGEPOSE_API void edgepose_kinematics_close(edgepose_kinematics* kinematics);

/* The kinds of notices: faults of the input that a stream reports to its user.
 *   "bad_time"         a time that was not later than the last, where options->on_bad_time does not refuse it
 *   "exchanged_sides"  a frame whose left and right were exchanged back
 *   "time_unit"        the first frames are a second or more apart each: the times are likely not in seconds
 *   "outside_picture"  more than half of 51 frames' keypoints lay outside the picture: its size is likely wrong
 *   "proportions"      in most of 51 frames a part of the body was longer than people's: likely the keypoints' order is
 *                      wrong
 *   "lying"            the person lies in nearly all of 51 frames, head to the left: if not so, x and y are exchanged
 *   "not_lifted"       somebody whom the engine would have lifted later than options->deadline_ms
 *   "late_push"        a push that took longer than options->deadline_ms all the same
 *   "other_lens"       the lens is centred far from the middle of the picture: its intrinsics may be another picture's
 * and for people also, each about a detection that was left out:
 *   "duplicate_person" a second detection of one person
 *   "across_people"    joints of two people in one pose
 *   "most_people"      a new person while options->most_people were followed
 * Kinds are added from version to version: edgepose_notice_name lists those of this library, from 0 to the null after
 * the last. */
EDGEPOSE_API const char* edgepose_notice_name(size_t kind);

/* The number of notices of a kind since the stream was opened; 0 for an unknown name. A reset leaves it. */
EDGEPOSE_API uint64_t edgepose_stream_notice_count(const edgepose_stream* stream, const char* name);

/* A readable sentence about the first notice of a kind; "" if there was none. Valid until the stream is closed. */
EDGEPOSE_API const char* edgepose_stream_notice_text(const edgepose_stream* stream, const char* name);

/* Forgets the person and the clock: for another recording or another person. */
EDGEPOSE_API edgepose_status edgepose_stream_reset(edgepose_stream* stream);

/* The bytes of what an engine with a state, as strided-causal, remembers of the person; 0: it takes windows. */
EDGEPOSE_API size_t edgepose_stream_memory_size(const edgepose_stream* stream);

/* Copies them to `memory`, which has `size` bytes, as many as edgepose_stream_memory_size says. For another stream on
 * the same engine file, on this kind of machine. */
EDGEPOSE_API edgepose_status edgepose_stream_memory(edgepose_stream* stream, void* memory, size_t size);

/* Takes over the memory of another stream and forgets the own past: a next frame within max_gap_s of that stream's
 * last one goes on from it, a later one begins anew. The places of hidden joints and the filter are not part of it. */
EDGEPOSE_API edgepose_status edgepose_stream_remember(edgepose_stream* stream, const void* memory, size_t size);

/* Frees a stream; null is allowed. */
EDGEPOSE_API void edgepose_stream_close(edgepose_stream* stream);

/* ---- people ---- */

typedef struct edgepose_people_options {
  uint32_t size;
  int32_t most_people; /* 1 to 4096: how many are followed at once. When so many are, a new person takes the place of
                          the one who has been away for longest, if for more than max_gap_s; else the new one is left
                          out */
  double return_s;     /* a person who returns within this time, near enough, keeps the id; after it the person is
                          forgotten */
} edgepose_people_options;
#define EDGEPOSE_PEOPLE_OPTIONS_INIT {sizeof(edgepose_people_options), 20, 5.0}

/* Everybody in front of one camera, each with a stream's poses, and with ids if the detector gives none. layout,
 * width_px, height_px and stream_options: as for edgepose_stream_open, for all people alike. Null options are the
 * defaults. On success *people is to be closed with edgepose_people_close; on an error it is null. */
EDGEPOSE_API edgepose_status edgepose_people_open(const edgepose_engine* engine, const char* layout, double width_px,
                                                  double height_px, const edgepose_stream_options* stream_options,
                                                  const edgepose_people_options* options, edgepose_people** people);

/* The same for your own detector; `layout` and what it points to need not outlive the call. */
EDGEPOSE_API edgepose_status edgepose_people_open_layout(const edgepose_engine* engine, const edgepose_layout* layout,
                                                         double width_px, double height_px,
                                                         const edgepose_stream_options* stream_options,
                                                         const edgepose_people_options* options,
                                                         edgepose_people** people);

/* Takes one camera frame with everybody in it: keypoints_px[detections][keypoints][columns], in any order, each as
 * for edgepose_stream_push; a row without keypoints is nobody. ids: a tracker's, one for each detection, from 0, in all
 * frames or in none; null: people are followed by their position and pose. One engine call for all.
 * EDGEPOSE_OK: *poses is how many have a new pose, for edgepose_people_pose; a person who is not seen is repeated for
 * max_gap_s. EDGEPOSE_NO_POSE: nobody has, and *poses is 0. Errors, which change nobody: what edgepose_stream_push
 * refuses, a negative or repeated id, ids with some frames only. Allocates only for
 * more detections than ever before. */
EDGEPOSE_API edgepose_status edgepose_people_push(edgepose_people* people, const float* keypoints_px, size_t detections,
                                                  size_t keypoints, size_t columns, double timestamp_s,
                                                  const int64_t* ids, size_t* poses);

/* Pose i of the last push or flush, from 0, in the order in which the people were first seen. Its arrays are valid
 * until the next push, flush, reset or close. */
EDGEPOSE_API edgepose_status edgepose_people_pose(const edgepose_people* people, size_t i, int64_t* id,
                                                  edgepose_pose* pose);

/* The id of a detection of the last push; -1: nobody's, it was left out, or there is no such detection. */
EDGEPOSE_API int64_t edgepose_people_id(const edgepose_people* people, size_t detection);

/* The recording has ended: like a push, for each person's next frame that delay_frames kept waiting.
 * EDGEPOSE_NO_POSE when none waits: everybody is then forgotten. Until then frames are refused. */
EDGEPOSE_API edgepose_status edgepose_people_flush(edgepose_people* people, size_t* poses);

/* Like edgepose_stream_notice_count and edgepose_stream_notice_text, for all people together. */
EDGEPOSE_API uint64_t edgepose_people_notice_count(const edgepose_people* people, const char* name);
EDGEPOSE_API const char* edgepose_people_notice_text(const edgepose_people* people, const char* name);

/* Forgets everybody and the clock. Ids are never reused. */
EDGEPOSE_API edgepose_status edgepose_people_reset(edgepose_people* people);

/* Frees people; null is allowed. */
EDGEPOSE_API void edgepose_people_close(edgepose_people* people);

#ifdef __cplusplus
}
#endif

#endif
