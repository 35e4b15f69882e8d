// The C functions of edgepose.h. No exception leaves them.
#define EDGEPOSE_API __attribute__((visibility("default")))
#include "../include/edgepose.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>

#include "axes.h"
#include "bones.h"
#include "engine.h"
#include "kinematics.h"
#include "people_stream.h"
#include "keypoints.h"
#include "place.h"
#include "stream.h"

struct edgepose_engine {
  std::shared_ptr<const edgepose::Engine> engine;
};

struct edgepose_stream {
  edgepose::Stream stream;
};

struct edgepose_people {
  edgepose::PeopleStream people;
};

struct edgepose_kinematics {
  edgepose::Kinematics kinematics;
};

struct edgepose_floor {
  edgepose::Floor floor;
};

namespace {

thread_local char error_text[2048];

edgepose_status failed(edgepose_status status, const char* text) {
  std::strncpy(error_text, text, sizeof error_text - 1);
  return status;
}

// The result of `call`, or the status for its exception.
template <class Call>
edgepose_status guarded(Call call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return failed(EDGEPOSE_NO_MEMORY, "there is not enough memory");
  } catch (const edgepose::EngineError& error) {
    return failed(EDGEPOSE_BAD_ENGINE, error.what());
  } catch (const std::invalid_argument& error) {
    return failed(EDGEPOSE_BAD_ARGUMENT, error.what());
  } catch (const edgepose::Busy& error) {
    return failed(EDGEPOSE_BUSY, error.what());
  } catch (const std::exception& error) {
    return failed(EDGEPOSE_FAILED, error.what());
  }
}

void need(bool holds, const char* otherwise) {
  if (!holds) throw std::invalid_argument(otherwise);
}

// Sizes of the structs in the first version of the library. When a struct grows, add its first size here.
template <class Struct>
constexpr std::size_t kFirstSize = sizeof(Struct);
template <>
constexpr std::size_t kFirstSize<edgepose_engine_options> = offsetof(edgepose_engine_options, cpus);
template <>
constexpr std::size_t kFirstSize<edgepose_stream_options> = offsetof(edgepose_stream_options, on_bad_time);
template <>
constexpr std::size_t kFirstSize<edgepose_pose> = offsetof(edgepose_pose, error_m);

// The size of a struct in the caller's version.
template <class Struct>
std::size_t size_of(const Struct* given, const char* name) {
  if (given->size >= kFirstSize<Struct> && given->size <= sizeof(Struct)) return given->size;
  throw std::invalid_argument(std::string(name) + "->size is " + std::to_string(given->size) + "; this library takes "
                              + std::to_string(kFirstSize<Struct>) + " to " + std::to_string(sizeof(Struct))
                              + ": begin with the header's _INIT macro");
}

// The defaults, overwritten by the caller's options.
template <class Options>
Options over(Options defaults, const Options* options) {
  if (options) std::memcpy(&defaults, options, size_of(options, "options"));
  return defaults;
}

const edgepose::Skeleton* skeleton_with(const edgepose_engine* engine, int32_t joint) {
  if (!engine || joint < 0 || joint >= engine->engine->skeleton().joints) return nullptr;
  return &engine->engine->skeleton();
}

// Fills the first `size` bytes of a pose, all that its caller has.
void fill(edgepose_pose* pose, std::size_t size, const edgepose::PoseArrays& of) {
  const edgepose_pose filled = {pose->size, (int32_t)of.is_seen.size(), of.was_reset, of.timestamp_s,
                                of.joints_m.data(), of.keypoints_norm.data(), of.confidence.data(), of.is_seen.data(),
                                of.error_m.empty() ? nullptr : of.error_m.data(), of.predicted_s,
                                of.has_root ? of.root.m.data() : nullptr,
                                of.has_root ? of.root.error_m.data() : nullptr};
  std::memcpy(pose, &filled, size);
}

// Fills *pose if `call` makes a new one.
template <class Call>
edgepose_status answered(edgepose_stream* stream, edgepose_pose* pose, Call call) {
  return guarded([&] {
    need(stream, "stream is null");
    need(pose, "pose is null");
    const std::size_t size = size_of(pose, "pose");
    if (!call(stream->stream)) return EDGEPOSE_NO_POSE;
    fill(pose, size, stream->stream.pose());
    return EDGEPOSE_OK;
  });
}

edgepose::Layout layout_of(const edgepose_layout& own) {
  need(own.keypoints > 0,
       ("layout->keypoints is " + std::to_string(own.keypoints) + "; wanted how many the detector gives").c_str());
  need(own.sources || own.source_count == 0, "layout->sources is null");
  std::vector<edgepose::NamedSource> sources;
  for (std::size_t i = 0; i < own.source_count; i++) {
    const edgepose_source& source = own.sources[i];
    need(source.joint, ("layout->sources[" + std::to_string(i) + "].joint is null").c_str());
    sources.push_back({source.joint, {source.keypoint, source.weight_x, source.weight_y}});
  }
  return edgepose::own_layout(own.name ? own.name : "custom", own.keypoints, sources);
}

edgepose::PersonOptions options_of(const edgepose_stream_options* options) {
  const auto asked = over<edgepose_stream_options>(EDGEPOSE_STREAM_OPTIONS_INIT, options);
  need(asked.on_bad_time >= EDGEPOSE_REFUSE_BAD_TIME && asked.on_bad_time <= EDGEPOSE_RESET_AT_BAD_TIME,
       ("options->on_bad_time is " + std::to_string(asked.on_bad_time)
        + "; wanted EDGEPOSE_REFUSE_BAD_TIME, EDGEPOSE_DROP_BAD_TIME or EDGEPOSE_RESET_AT_BAD_TIME").c_str());
  edgepose::PersonOptions taken{asked.delay_frames, asked.rate_hz, asked.max_gap_s, asked.seen_above,
                                asked.hold_s, asked.min_cutoff_hz, asked.beta, asked.d_cutoff_hz,
                                asked.fx, asked.fy, asked.cx, asked.cy,
                                (edgepose::BadTime)asked.on_bad_time, asked.mend_sides != 0, {}, {},
                                asked.deadline_ms, false, {}, asked.height_m, asked.constant_bones != 0};
  static_assert(EDGEPOSE_LENGTHS == edgepose::kLengthCount, "as many lengths as a person has");
  std::copy(asked.lengths_m, asked.lengths_m + EDGEPOSE_LENGTHS, taken.lengths_m.begin());
  std::copy(asked.gravity, asked.gravity + 3, taken.gravity.begin());
  static_assert(EDGEPOSE_DISTORTIONS == edgepose::kDistortions, "as many coefficients as a lens has");
  std::copy(asked.distortion, asked.distortion + EDGEPOSE_DISTORTIONS, taken.distortion.begin());
  return taken;
}

// Makes the layout after checking the other arguments.
template <class MakeLayout>
edgepose_status opened(const edgepose_engine* engine, const void* layout, double width_px, double height_px,
                       const edgepose_stream_options* options, edgepose_stream** stream, MakeLayout make_layout) {
  if (stream) *stream = nullptr;
  return guarded([&] {
    need(engine, "engine is null");
    need(layout, "layout is null");
    need(stream, "stream is null");
    const edgepose::PersonOptions person = options_of(options);
    *stream = new edgepose_stream{{engine->engine, make_layout(), width_px, height_px, person}};
    return EDGEPOSE_OK;
  });
}

template <class MakeLayout>
edgepose_status opened(const edgepose_engine* engine, const void* layout, double width_px, double height_px,
                       const edgepose_stream_options* stream_options, const edgepose_people_options* options,
                       edgepose_people** people, MakeLayout make_layout) {
  if (people) *people = nullptr;
  return guarded([&] {
    need(engine, "engine is null");
    need(layout, "layout is null");
    need(people, "people is null");
    const edgepose::PersonOptions person = options_of(stream_options);
    const auto asked = over<edgepose_people_options>(EDGEPOSE_PEOPLE_OPTIONS_INIT, options);
    *people = new edgepose_people{
        {engine->engine, make_layout(), width_px, height_px, person, {asked.most_people, asked.return_s}}};
    return EDGEPOSE_OK;
  });
}

// The poses that `call` finds.
template <class Call>
edgepose_status counted(edgepose_people* people, size_t* poses, Call call) {
  if (poses) *poses = 0;
  return guarded([&] {
    need(people, "people is null");
    need(poses, "poses is null");
    *poses = call(people->people).size();
    return *poses ? EDGEPOSE_OK : EDGEPOSE_NO_POSE;
  });
}

void fill(edgepose_axes* to, const edgepose::Axes& axes) {
  std::copy(axes.rotation.begin(), axes.rotation.end(), to->rotation);
  std::copy(axes.origin.begin(), axes.origin.end(), to->origin_m);
}

// The axes that `call` makes.
template <class Call>
edgepose_status made(edgepose_axes* axes, Call call) {
  return guarded([&] {
    need(axes, "axes is null");
    fill(axes, call());
    return EDGEPOSE_OK;
  });
}

// The notice of a kind by its name; null for an unknown name.
const edgepose::Notices::One* notice_of(const edgepose::Notices& notices, const char* name) {
  for (std::size_t kind = 0; name && kind < edgepose::kNoticeKinds; kind++)
    if (std::strcmp(name, edgepose::kNoticeNames[kind]) == 0) return &notices[kind];
  return nullptr;
}

const edgepose::Notices::One* notice_of(const edgepose_stream* stream, const char* name) {
  return stream ? notice_of(stream->stream.notices(), name) : nullptr;
}

const edgepose::Notices::One* notice_of(const edgepose_people* people, const char* name) {
  return people ? notice_of(people->people.notices(), name) : nullptr;
}

template <class Handle>
uint64_t notice_count(const Handle* handle, const char* name) {
  const auto* notice = notice_of(handle, name);
  return notice ? notice->times : 0;
}

template <class Handle>
const char* notice_text(const Handle* handle, const char* name) {
  const auto* notice = notice_of(handle, name);
  return notice ? notice->text.c_str() : "";
}

long whole(std::size_t count) { return (long)std::min<std::size_t>(count, LONG_MAX); }

}  // namespace

extern "C" {

uint32_t edgepose_abi_version(void) { return EDGEPOSE_ABI_VERSION; }
const char* edgepose_version(void) { return EDGEPOSE_VERSION; }
const char* edgepose_error(void) { return error_text; }

edgepose_status edgepose_engine_open(const char* path, const edgepose_engine_options* options,
                                     edgepose_engine** engine) {
  if (engine) *engine = nullptr;
  return guarded([&] {
    need(path, "path is null");
    need(engine, "engine is null");
    const auto asked = over<edgepose_engine_options>(EDGEPOSE_ENGINE_OPTIONS_INIT, options);
    const char* isa = asked.isa ? asked.isa : std::getenv("EDGEPOSE_ISA");
    need(asked.cpus || asked.cpu_count == 0, "options->cpus is null");
    need(asked.cpu_count <= 256, "options->cpu_count is more than 256");
    *engine = new edgepose_engine{edgepose::load(path, asked.threads, isa, {asked.cpus, asked.cpus + asked.cpu_count})};
    return EDGEPOSE_OK;
  });
}

void edgepose_engine_close(edgepose_engine* engine) { delete engine; }

int32_t edgepose_engine_frames(const edgepose_engine* engine) { return engine ? engine->engine->frames() : 0; }
int32_t edgepose_engine_joints(const edgepose_engine* engine) { return engine ? engine->engine->skeleton().joints : 0; }
int32_t edgepose_engine_is_causal(const edgepose_engine* engine) { return engine && engine->engine->is_causal(); }
double edgepose_engine_rate_hz(const edgepose_engine* engine) { return engine ? engine->engine->rate_hz() : 0; }
const char* edgepose_engine_model(const edgepose_engine* engine) {
  return engine ? engine->engine->model().c_str() : nullptr;
}
const char* edgepose_engine_precision(const edgepose_engine* engine) {
  return engine ? engine->engine->precision().c_str() : nullptr;
}
const char* edgepose_engine_isa(const edgepose_engine* engine) { return engine ? engine->engine->isa() : nullptr; }
const char* edgepose_engine_skeleton(const edgepose_engine* engine) {
  return engine ? engine->engine->skeleton().name.c_str() : nullptr;
}

const char* edgepose_engine_joint(const edgepose_engine* engine, int32_t joint) {
  const edgepose::Skeleton* skeleton = skeleton_with(engine, joint);
  return skeleton ? skeleton->names[(std::size_t)joint].c_str() : nullptr;
}

int32_t edgepose_engine_parent(const edgepose_engine* engine, int32_t joint) {
  const edgepose::Skeleton* skeleton = skeleton_with(engine, joint);
  return skeleton ? skeleton->parents[(std::size_t)joint] : -1;
}

edgepose_status edgepose_engine_run(const edgepose_engine* engine, size_t people, const float* keypoints_norm,
                                    size_t keypoints_length, float* pose_m, size_t pose_length) {
  return guarded([&] {
    need(engine, "engine is null");
    need(people <= 1 << 20, "people is more than 1048576");
    const edgepose::Engine& of = *engine->engine;
    const std::size_t joints = (std::size_t)of.skeleton().joints, frames = (std::size_t)of.frames();
    const auto check = [](const char* name, const float* array, std::size_t length, std::size_t wanted) {
      need(array || wanted == 0, (std::string(name) + " is null").c_str());
      need(length == wanted,
           (std::string(name) + " has " + std::to_string(length) + " floats; it needs " + std::to_string(wanted))
               .c_str());
    };
    check("keypoints_norm", keypoints_norm, keypoints_length, people * frames * joints * of.inputs().size());
    check("pose_m", pose_m, pose_length, people * joints * of.outputs().size());
    edgepose::Engine::Turn(of)->run(keypoints_norm, pose_m, (int)people);
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_stream_open(const edgepose_engine* engine, const char* layout, double width_px,
                                     double height_px, const edgepose_stream_options* options,
                                     edgepose_stream** stream) {
  return opened(engine, layout, width_px, height_px, options, stream, [&] { return edgepose::layout_named(layout); });
}

edgepose_status edgepose_stream_open_layout(const edgepose_engine* engine, const edgepose_layout* layout,
                                            double width_px, double height_px, const edgepose_stream_options* options,
                                            edgepose_stream** stream) {
  return opened(engine, layout, width_px, height_px, options, stream, [&] {
    size_of(layout, "layout");
    return layout_of(*layout);
  });
}

edgepose_status edgepose_stream_push(edgepose_stream* stream, const float* keypoints_px, size_t keypoints,
                                     size_t columns, double timestamp_s, edgepose_pose* pose) {
  return answered(stream, pose, [&](edgepose::Stream& of) {
    return of.push(keypoints_px, whole(keypoints), whole(columns), timestamp_s);
  });
}

edgepose_status edgepose_push_many(edgepose_stream* const* streams, size_t people, const edgepose_frame* frames,
                                   edgepose_pose* poses) {
  return guarded([&] {
    if (people == 0) return EDGEPOSE_NO_POSE;
    need(people <= 1 << 20, "people is more than 1048576");
    need(streams, "streams is null");
    need(frames, "frames is null");
    need(poses, "poses is null");
    const std::size_t size = size_of(poses, "poses");
    const auto pose = [&](std::size_t i) { return (edgepose_pose*)((char*)poses + i * size); };
    std::vector<edgepose::Stream*> together;
    std::vector<edgepose::Frame> seen;
    for (std::size_t i = 0; i < people; i++) {
      if (!streams[i]) throw std::invalid_argument("streams[" + std::to_string(i) + "] is null");
      if (pose(i)->size != size)
        throw std::invalid_argument("poses[" + std::to_string(i) + "].size is not that of poses[0]");
      together.push_back(&streams[i]->stream);
      seen.push_back(
          {frames[i].keypoints_px, whole(frames[i].keypoints), whole(frames[i].columns), frames[i].timestamp_s});
    }
    edgepose::Streams all(together);
    const std::vector<std::size_t>& answered = all.push(seen);
    for (std::size_t i = 0; i < people; i++) pose(i)->joints = 0;
    for (const std::size_t i : answered) fill(pose(i), size, together[i]->pose());
    return answered.empty() ? EDGEPOSE_NO_POSE : EDGEPOSE_OK;
  });
}

edgepose_status edgepose_stream_flush(edgepose_stream* stream, edgepose_pose* pose) {
  return answered(stream, pose, [](edgepose::Stream& of) { return of.flush(); });
}

edgepose_status edgepose_root_translation(size_t joints, const float* joints_m, const float* keypoints,
                                          const float* confidence, double fx, double fy, double cx, double cy,
                                          double* root_m) {
  return guarded([&] {
    need(joints_m, "joints_m is null");
    need(keypoints, "keypoints is null");
    need(confidence, "confidence is null");
    need(root_m, "root_m is null");
    const auto place = edgepose::root_translation(joints_m, keypoints, confidence, joints, fx, fy, cx, cy);
    std::copy(place.begin(), place.end(), root_m);
    return EDGEPOSE_OK;
  });
}

double edgepose_depth_at(const float* depths, size_t width, size_t height, double x_px, double y_px, int32_t reach_px) {
  const double at_px[2] = {x_px, y_px};
  return depths ? edgepose::depth_at(depths, whole(width), whole(height), at_px, reach_px) : NAN;
}

edgepose_status edgepose_hold_bones(const edgepose_engine* engine, const double* lengths_m, float* joints_m,
                                    size_t frames) {
  return guarded([&] {
    need(engine, "engine is null");
    need(joints_m || frames == 0, "joints_m is null");
    edgepose::Lengths known{};
    if (lengths_m) std::copy(lengths_m, lengths_m + EDGEPOSE_LENGTHS, known.begin());
    edgepose::hold_bones(engine->engine->skeleton(), known, joints_m, frames);
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_axes_named(const char* name, edgepose_axes* axes) {
  return made(axes, [&] {
    need(name, "name is null");
    return edgepose::axes_named(name);
  });
}

edgepose_status edgepose_axes_of_camera(const double* rotation, const double* translation, edgepose_axes* axes) {
  return made(axes, [&] {
    need(rotation, "rotation is null");
    need(translation, "translation is null");
    return edgepose::axes_of_camera(rotation, translation);
  });
}

edgepose_status edgepose_axes_of_gravity(const double* gravity, double height_m, edgepose_axes* axes) {
  return made(axes, [&] {
    need(gravity, "gravity is null");
    return edgepose::axes_of_gravity(gravity, height_m);
  });
}

edgepose_status edgepose_axes_move(const edgepose_axes* axes, float* points, size_t count, int32_t is_relative) {
  return guarded([&] {
    need(axes, "axes is null");
    need(points || count == 0, "points is null");
    edgepose::Axes by;
    std::copy(axes->rotation, axes->rotation + 9, by.rotation.begin());
    std::copy(axes->origin_m, axes->origin_m + 3, by.origin.begin());
    by.move(points, count, is_relative != 0);
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_floor_open(const edgepose_engine* engine, const double* gravity, edgepose_floor** floor) {
  if (floor) *floor = nullptr;
  return guarded([&] {
    need(engine, "engine is null");
    need(floor, "floor is null");
    *floor = new edgepose_floor{{engine->engine->skeleton(), gravity}};
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_floor_add(edgepose_floor* floor, const float* joints_m, const double* root_m) {
  return guarded([&] {
    need(floor, "floor is null");
    need(joints_m, "joints_m is null");
    need(root_m, "root_m is null: the pose has no place");
    floor->floor.add(joints_m, root_m);
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_floor_axes(const edgepose_floor* floor, edgepose_axes* axes) {
  return made(axes, [&] {
    need(floor, "floor is null");
    return floor->floor.axes();
  });
}

edgepose_status edgepose_floor_reset(edgepose_floor* floor) {
  return guarded([&] {
    need(floor, "floor is null");
    floor->floor.reset();
    return EDGEPOSE_OK;
  });
}

void edgepose_floor_close(edgepose_floor* floor) { delete floor; }

const char* edgepose_angle_name(size_t angle) {
  return angle < edgepose::kAngleCount ? edgepose::kAngles[angle].name : nullptr;
}

edgepose_status edgepose_angle_range(size_t angle, double* least_deg, double* most_deg) {
  return guarded([&] {
    need(angle < edgepose::kAngleCount,
         ("there is no angle " + std::to_string(angle) + "; there are " + std::to_string(edgepose::kAngleCount))
             .c_str());
    need(least_deg, "least_deg is null");
    need(most_deg, "most_deg is null");
    *least_deg = edgepose::kAngles[angle].least, *most_deg = edgepose::kAngles[angle].most;
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_kinematics_open(const edgepose_engine* engine, edgepose_kinematics** kinematics) {
  if (kinematics) *kinematics = nullptr;
  return guarded([&] {
    need(engine, "engine is null");
    need(kinematics, "kinematics is null");
    *kinematics = new edgepose_kinematics{edgepose::Kinematics(engine->engine->skeleton())};
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_kinematics_update(edgepose_kinematics* kinematics, const float* joints_m,
                                           const double* root_m, double timestamp_s, edgepose_movement* movement) {
  return guarded([&] {
    need(kinematics, "kinematics is null");
    need(joints_m, "joints_m is null");
    need(movement, "movement is null");
    const std::size_t size = size_of(movement, "movement");
    const edgepose::Movement& now = kinematics->kinematics(joints_m, root_m, timestamp_s);
    edgepose_movement filled = {movement->size, (int32_t)(now.rotations.size() / 4), now.rotations.data(),
                                now.angles_deg.data(), now.velocity_m_s.data(), {}};
    std::copy(now.centre_of_mass_m.begin(), now.centre_of_mass_m.end(), filled.centre_of_mass_m);
    std::memcpy(movement, &filled, size);
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_kinematics_reset(edgepose_kinematics* kinematics) {
  return guarded([&] {
    need(kinematics, "kinematics is null");
    kinematics->kinematics.reset();
    return EDGEPOSE_OK;
  });
}

void edgepose_kinematics_close(edgepose_kinematics* kinematics) { delete kinematics; }

const char* edgepose_notice_name(size_t kind) {
  return kind < edgepose::kNoticeKinds ? edgepose::kNoticeNames[kind] : nullptr;
}

uint64_t edgepose_stream_notice_count(const edgepose_stream* stream, const char* name) {
  return notice_count(stream, name);
}
const char* edgepose_stream_notice_text(const edgepose_stream* stream, const char* name) {
  return notice_text(stream, name);
}

edgepose_status edgepose_stream_reset(edgepose_stream* stream) {
  return guarded([&] {
    need(stream, "stream is null");
    stream->stream.reset();
    return EDGEPOSE_OK;
  });
}

size_t edgepose_stream_memory_size(const edgepose_stream* stream) {
  return stream ? stream->stream.memory_size() : 0;
}

edgepose_status edgepose_stream_memory(edgepose_stream* stream, void* memory, size_t size) {
  return guarded([&] {
    need(stream, "stream is null");
    need(memory, "memory is null");
    const std::string bytes = stream->stream.memory();
    need(size == bytes.size(),
         ("memory has " + std::to_string(size) + " bytes; it needs " + std::to_string(bytes.size())).c_str());
    std::memcpy(memory, bytes.data(), size);
    return EDGEPOSE_OK;
  });
}

edgepose_status edgepose_stream_remember(edgepose_stream* stream, const void* memory, size_t size) {
  return guarded([&] {
    need(stream, "stream is null");
    need(memory, "memory is null");
    stream->stream.remember({static_cast<const char*>(memory), size});
    return EDGEPOSE_OK;
  });
}

void edgepose_stream_close(edgepose_stream* stream) { delete stream; }

edgepose_status edgepose_people_open(const edgepose_engine* engine, const char* layout, double width_px,
                                     double height_px, const edgepose_stream_options* stream_options,
                                     const edgepose_people_options* options, edgepose_people** people) {
  return opened(engine, layout, width_px, height_px, stream_options, options, people,
                [&] { return edgepose::layout_named(layout); });
}

edgepose_status edgepose_people_open_layout(const edgepose_engine* engine, const edgepose_layout* layout,
                                            double width_px, double height_px,
                                            const edgepose_stream_options* stream_options,
                                            const edgepose_people_options* options, edgepose_people** people) {
  return opened(engine, layout, width_px, height_px, stream_options, options, people, [&] {
    size_of(layout, "layout");
    return layout_of(*layout);
  });
}

edgepose_status edgepose_people_push(edgepose_people* people, const float* keypoints_px, size_t detections,
                                     size_t keypoints, size_t columns, double timestamp_s, const int64_t* ids,
                                     size_t* poses) {
  return counted(people, poses, [&](edgepose::PeopleStream& of) -> const auto& {
    need(keypoints_px || detections == 0, "keypoints_px is null");
    return of.push(keypoints_px, whole(detections), whole(keypoints), whole(columns), timestamp_s, ids);
  });
}

edgepose_status edgepose_people_pose(const edgepose_people* people, size_t i, int64_t* id, edgepose_pose* pose) {
  return guarded([&] {
    need(people, "people is null");
    need(id, "id is null");
    need(pose, "pose is null");
    const std::size_t size = size_of(pose, "pose");
    const auto& found = people->people.found();
    need(i < found.size(),
         ("there is no pose " + std::to_string(i) + "; there are " + std::to_string(found.size())).c_str());
    *id = found[i].id;
    fill(pose, size, *found[i].pose);
    return EDGEPOSE_OK;
  });
}

int64_t edgepose_people_id(const edgepose_people* people, size_t detection) {
  return people && detection < people->people.ids().size() ? people->people.ids()[detection]
                                                           : edgepose::People::kNobody;
}

edgepose_status edgepose_people_flush(edgepose_people* people, size_t* poses) {
  return counted(people, poses, [](edgepose::PeopleStream& of) -> const auto& { return of.flush(); });
}

uint64_t edgepose_people_notice_count(const edgepose_people* people, const char* name) {
  return notice_count(people, name);
}
const char* edgepose_people_notice_text(const edgepose_people* people, const char* name) {
  return notice_text(people, name);
}

edgepose_status edgepose_people_reset(edgepose_people* people) {
  return guarded([&] {
    need(people, "people is null");
    people->people.reset();
    return EDGEPOSE_OK;
  });
}

void edgepose_people_close(edgepose_people* people) { delete people; }

}  // extern "C"
