/* Opens, runs, streams and closes through edgepose.h with arrays of exactly the promised size, for a build with
 * sanitizers, and again with whatever is refused. c_api_check ENGINE DAMAGED */
#include <edgepose.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEED(condition) \
  do { \
    if (!(condition)) { \
      printf("line %d: %s (%s)\n", __LINE__, #condition, edgepose_error()); \
      return 1; \
    } \
  } while (0)

/* A copy on the heap, so that a read past its end is seen. */
static float* frame_of(int keypoints, int columns, int at) {
  float* frame = malloc(sizeof(float) * (size_t)(keypoints * columns));
  for (int i = 0; i < keypoints * columns; i++)
    frame[i] = i % columns == 2 ? (float)((i + at) % 9) / 8 : 200 + (float)(i / columns * 37 % 150) + 0.3f * (float)at;
  return frame;
}

static int stream_of(const edgepose_engine* engine, const char* layout, int keypoints) {
  edgepose_stream_options options = EDGEPOSE_STREAM_OPTIONS_INIT;
  options.delay_frames = edgepose_engine_frames(engine) / 2;
  options.min_cutoff_hz = 1;
  edgepose_stream* stream;
  NEED(edgepose_stream_open(engine, layout, 640, 480, &options, &stream) == EDGEPOSE_OK);
  int poses = 0;
  for (int i = 0; i < 200; i++) {
    const int columns = 2 + i % 2;
    float* frame = frame_of(keypoints, columns, i);
    edgepose_pose* pose = malloc(sizeof *pose);
    pose->size = sizeof *pose;
    const int status = edgepose_stream_push(stream, i % 7 ? frame : NULL, (size_t)keypoints, (size_t)columns,
                                            0.013 * i + (i > 100 ? 3 : 0), pose);
    NEED(status == EDGEPOSE_OK || status == EDGEPOSE_NO_POSE);
    free(frame);
    if (status == EDGEPOSE_OK) {
      float sum = 0;
      for (int j = 0; j < pose->joints; j++)
        sum += pose->joints_m[3 * j + 2] + pose->keypoints_norm[2 * j + 1] + pose->confidence[j] + pose->is_seen[j];
      NEED(sum == sum);
      poses++;
    }
    NEED(edgepose_stream_push(stream, NULL, 0, 0, -1.0, pose) == EDGEPOSE_BAD_ARGUMENT);
    free(pose);
    if (i == 150) NEED(edgepose_stream_reset(stream) == EDGEPOSE_OK);
  }
  edgepose_stream_close(stream);
  NEED(poses > 20);
  return 0;
}

int main(int argc, char** argv) {
  NEED(argc == 3);
  edgepose_engine* engine;
  NEED(edgepose_engine_open(argv[2], NULL, &engine) == EDGEPOSE_BAD_ENGINE && engine == NULL);
  edgepose_engine_options options = EDGEPOSE_ENGINE_OPTIONS_INIT;
  options.threads = 2;
  options.isa = "generic";
  NEED(edgepose_engine_open(argv[1], &options, &engine) == EDGEPOSE_OK);
  for (int j = 0; j < edgepose_engine_joints(engine); j++)
    NEED(strlen(edgepose_engine_joint(engine, j)) > 0 && edgepose_engine_parent(engine, j) < j);
  for (size_t people = 0; people < 4; people++) {
    const size_t joints = (size_t)edgepose_engine_joints(engine),
                 in = people * (size_t)edgepose_engine_frames(engine) * joints * 2, out = people * joints * 3;
    float *x = calloc(in, sizeof *x), *y = malloc(out * sizeof *y);
    NEED(edgepose_engine_run(engine, people, x, in, y, out) == EDGEPOSE_OK);
    NEED(edgepose_engine_run(engine, people + 1, x, in, y, out) == EDGEPOSE_BAD_ARGUMENT);
    free(x);
    free(y);
  }
  static const struct {
    const char* name;
    int keypoints;
  } layouts[] = {{"coco17", 17},      {"coco17-demo", 17}, {"halpe26", 26}, {"body25", 25}, {"body25b", 25},
                 {"mediapipe33", 33}, {"mpii16", 16},      {"h36m17", 17},  {"h36m16", 16}};
  for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
    if (stream_of(engine, layouts[i].name, layouts[i].keypoints)) return 1;
  edgepose_engine_close(engine);
  printf("done\n");
  return 0;
}
