/* Lifts a recording: lift ENGINE LAYOUT WIDTH HEIGHT FPS < keypoints.txt
 *
 * keypoints.txt: a line a frame, x y confidence of each keypoint of the layout in pixels; an empty line where nobody
 * was found. Prints a line a pose: its time in seconds, then x y z of each joint in metres from the pelvis. */
#include <edgepose.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_NUMBERS = 1024, MOST_CHARACTERS = 64 * 1024 };

/* Reads the numbers of a line; returns how many. */
static size_t numbers_of(const char* line, float* numbers) {
  size_t count = 0;
  char* end;
  for (float number = strtof(line, &end); end != line && count < MOST_NUMBERS; number = strtof(line, &end)) {
    numbers[count++] = number;
    line = end;
  }
  return count;
}

static int failed(const char* what) {
  fprintf(stderr, "lift: %s: %s\n", what, edgepose_error());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: lift ENGINE LAYOUT WIDTH HEIGHT FPS < keypoints.txt\n");
    return 2;
  }
  if (edgepose_abi_version() != EDGEPOSE_ABI_VERSION) {
    fprintf(stderr, "lift: the library is not the one this program was built for\n");
    return 2;
  }
  edgepose_engine* engine;
  if (edgepose_engine_open(argv[1], NULL, &engine) < 0) return failed("the engine");
  edgepose_stream* stream;
  const edgepose_status opened = edgepose_stream_open(engine, argv[2], atof(argv[3]), atof(argv[4]), NULL, &stream);
  edgepose_engine_close(engine); /* the stream keeps what it needs */
  if (opened < 0) return failed("the stream");

  static char line[MOST_CHARACTERS];
  static float keypoints_px[MOST_NUMBERS];
  const double fps = atof(argv[5]);
  for (long frame = 0; fgets(line, sizeof line, stdin); frame++) {
    const size_t count = numbers_of(line, keypoints_px);
    edgepose_pose pose = EDGEPOSE_POSE_INIT;
    const edgepose_status status =
        edgepose_stream_push(stream, count ? keypoints_px : NULL, count / 3, 3, (double)frame / fps, &pose);
    if (status < 0) return failed("a frame");
    if (status == EDGEPOSE_NO_POSE) continue;
    printf("%.6f", pose.timestamp_s);
    for (int i = 0; i < 3 * pose.joints; i++) printf(" %.9g", pose.joints_m[i]);
    printf("\n");
  }
  edgepose_stream_close(stream);
  return 0;
}
