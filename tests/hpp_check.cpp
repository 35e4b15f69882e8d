// The promises of edgepose.hpp that no example shows. Prints "done", or what does not hold. hpp_check ENGINE
#include <cstdio>
#include <edgepose.hpp>
#include <string>
#include <utility>

static int failures = 0;
#define HOLDS(condition) \
  ((condition) ? (void)0 : (void)(failures++, std::printf("line %d: %s\n", __LINE__, #condition)))

template <class Call>
static std::string refusal(Call call, edgepose_status status) {
  try {
    call();
  } catch (const edgepose::Error& error) {
    HOLDS(error.status() == status);
    return error.what();
  }
  return "nothing was thrown";
}

int main(int, char** argv) {
  using namespace edgepose;
  HOLDS(edgepose_abi_version() == EDGEPOSE_ABI_VERSION);
  HOLDS(refusal([] { Engine("no such file"); }, EDGEPOSE_BAD_ENGINE).find("no such file") != std::string::npos);

  EngineOptions two;
  two.threads = 2;
  Engine first(argv[1], two), engine(std::move(first));
  HOLDS(engine.joints() == 17 && engine.skeleton() == "h36m17" && !engine.is_causal()
        && engine.parent(engine.index("left_knee")) == engine.index("left_hip"));
  HOLDS(engine.joint(0) == "pelvis" && engine.parent(0) == -1);
  for (int j : {-1, 17}) {
    bool is_refused = false;
    try { engine.joint(j); } catch (const std::out_of_range&) { is_refused = true; }
    HOLDS(is_refused);
  }
  const std::vector<float> x(2 * 17 * 2, 0.25f), poses = engine.run(x, 2);
  HOLDS(poses.size() == 2 * 17 * 3
        && std::vector<float>(poses.begin(), poses.begin() + 51)
               == std::vector<float>(poses.begin() + 51, poses.end()));
  HOLDS(refusal([&] { engine.run(x, 3); }, EDGEPOSE_BAD_ARGUMENT).find("it needs 102") != std::string::npos);
  HOLDS(refusal([&] { Stream(engine, "coco", 640, 480); }, EDGEPOSE_BAD_ARGUMENT).find("wanted one of coco17")
        != std::string::npos);

  std::vector<float> frame;
  for (int k = 0; k < 17; k++) frame.insert(frame.end(), {200.f + 7.f * (float)k, 300.f - 5.f * (float)k, 1.f});
  frame[3 * 10 + 2] = 0;  // the right wrist is not seen
  StreamOptions options;
  options.hold_s = 1;
  Stream moved(engine, "h36m17", 640, 480, options), stream(std::move(moved));
  { Engine gone(std::move(engine)); }  // the stream keeps what it needs
  HOLDS(stream.push_nobody(0.5) == nullptr);
  const Pose* pose = stream.push(frame, 1.0);
  HOLDS(pose && pose->timestamp_s() == 1.0 && pose->was_reset() && pose->joints_m().size() == 51
        && pose->keypoints_norm().size() == 34);
  HOLDS(pose && pose->is_seen()[0] == 1 && pose->is_seen()[10] == 0 && pose->confidence()[10] == 0
        && pose->joint_m(16).data() == pose->joints_m().data() + 48);
  int seen = 0;
  for (const std::uint8_t is_seen : pose->is_seen()) seen += is_seen;
  HOLDS(seen == 16);
  HOLDS(refusal([&] { stream.push(frame, 1.0); }, EDGEPOSE_BAD_ARGUMENT).find("wanted a later") != std::string::npos);
  HOLDS(refusal([&] { stream.push(std::vector<float>(), 2.0); }, EDGEPOSE_BAD_ARGUMENT).find("shape (0, 3)")
        != std::string::npos);
  bool is_refused = false;
  try { stream.push(std::vector<float>(50), 2.0); } catch (const std::invalid_argument&) { is_refused = true; }
  HOLDS(is_refused);
  stream.reset();
  pose = stream.push({frame.data(), 34}, 0.0, 2);
  HOLDS(pose && pose->was_reset());
  HOLDS(pose && pose->error_m().size() == 0 && pose->predicted_s() == 0);
  double place[3];
  HOLDS(edgepose_root_translation(17, pose->joints_m().data(), pose->keypoints_norm().data(),
                                  pose->confidence().data(), 2, 2, 0, 0, place) == EDGEPOSE_OK);
  HOLDS(pose->root_m(2, 2, 0, 0)[2] == place[2]);
  HOLDS(refusal([&] { pose->root_m(0, 2, 0, 0); }, EDGEPOSE_BAD_ARGUMENT).find("fx and fy positive")
        != std::string::npos);

  Engine another(argv[1]);
  Layout own{17, {}};
  std::vector<std::string> names;
  for (int j = 0; j < 17; j++) names.push_back(another.joint(j));
  for (int j = 0; j < 17; j++) own.sources.push_back({names[(std::size_t)j].c_str(), j, 1, 1});
  Stream a(another, own, 640, 480), b(another, "h36m17", 640, 480);
  const std::vector<const Pose*> both = Stream::push_many({&a, &b}, {View<float>(frame), View<float>(frame)}, 1.0);
  HOLDS(both[0] && both[1] && std::vector<float>(both[0]->joints_m().begin(), both[0]->joints_m().end())
                                  == std::vector<float>(both[1]->joints_m().begin(), both[1]->joints_m().end()));
  HOLDS(Stream::push_many({&a, &b}, {View<float>(frame), std::nullopt}, 9.0)[1] == nullptr);
  HOLDS(refusal([&] { Stream::push_many({&a, &b}, {std::nullopt, std::nullopt}, 9.0); }, EDGEPOSE_BAD_ARGUMENT)
            .find("person 0: ")
        == 0);

  PeopleOptions at_most;
  at_most.most_people = 2;
  People people(another, own, 640, 480, {}, at_most);
  std::vector<float> everybody = frame;
  for (std::size_t i = 0; i < frame.size(); i++) everybody.push_back(frame[i] + (i % 3 == 0 ? 300.0f : 0.0f));
  std::vector<People::Found> found = people.push(everybody, 2, 1.0);
  HOLDS(found.size() == 2 && found[0].id == 0 && found[1].id == 1 && found[1].pose.was_reset());
  HOLDS(people.id(0) == 0 && people.id(1) == 1 && people.id(2) == -1);
  HOLDS(refusal([&] { people.push(everybody, 2, 1.0); }, EDGEPOSE_BAD_ARGUMENT).find("wanted a later")
        != std::string::npos);
  is_refused = false;
  try { people.push(everybody, 3, 1.2, 3, {1}); } catch (const std::invalid_argument&) { is_refused = true; }
  HOLDS(is_refused && people.push({nullptr, 0}, 0, 1.2).size() == 2 && people.flush().empty());
  people.reset();
  found = people.push(everybody, 2, 1.0, 3, {7, 5});
  HOLDS(found.size() == 2 && found[0].id == 7 && people.notice_count("most_people") == 0);
  std::printf(failures ? "failed\n" : "done\n");
  return failures;
}
