// Persons, batches of them, and layouts, for Python, with checks and conversion of its arguments.
#include "runtime.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "../runtime/batch.h"
#include "person.h"

namespace edgepose {

Skeleton skeleton_of(const py::handle& skeleton) {
  const auto names = skeleton.attr("joints").cast<std::vector<std::string>>();
  Skeleton to{skeleton.attr("name").cast<std::string>(), (int)names.size(), names,
              skeleton.attr("parents").cast<std::vector<int>>()};
  if (to.parents.size() != names.size() || names.empty())
    throw std::invalid_argument("skeleton '" + to.name + "' has no tree; wanted a parent for each joint");
  return to;
}

namespace {

py::object asked(const py::object& self, PyPerson& person, const py::object& run) {
  // No copy: the person cannot change before the answer.
  const py::array windows = py::array_t<float>(windows_shape(person, 1), person.window(), self);
  py::list states;
  add_state(states, person, self);
  const Array<float> answers = answers_of(person, run, windows, states);
  return pose_of(person, person.pose, question_of(person), answers.data());
}

py::object push(const py::object& self, const py::object& run, const py::object& keypoints_px,
                const py::object& timestamp_s) {
  PyPerson& person = self.cast<PyPerson&>();
  const Person::Claim claim(person);
  person.deadline().start();
  check(person, keypoints_px, timestamp_s);
  const bool is_new = person.take();
  warn(person.notices(), kCallersLevel);
  if (!is_new) return py::none();
  const bool is_lifted = person.deadline().choose({person.answered_at_s()})[0];
  const py::object pose =
      is_lifted ? asked(self, person, run) : pose_of(person, person.pose, question_of(person), nullptr);
  person.deadline().ran(person.notices());
  warn(person.notices(), kCallersLevel);
  return pose;
}

py::object flush(const py::object& self, const py::object& run) {
  PyPerson& person = self.cast<PyPerson&>();
  const Person::Claim claim(person);
  if (!person.flush()) return py::none();
  return asked(self, person, run);
}

py::list push_many(const py::list& streams, const py::object& run, const py::list& keypoints_px,
                   const py::list& times_s) {
  const auto persons = streams.cast<std::vector<PyPerson*>>();
  Batch people({persons.begin(), persons.end()});
  people.deadline().start();
  people.check([&](Person& person, std::size_t i) {
    try {
      check(person, keypoints_px[i], times_s[i]);
    } catch (const py::type_error& error) {
      throw py::type_error("person " + std::to_string(i) + ": " + error.what());
    } catch (const py::value_error& error) {
      throw std::invalid_argument(error.what());
    }
  });
  py::list poses;
  for (std::size_t i = 0; i < persons.size(); i++) poses.append(py::none());
  const std::vector<std::size_t>& asking = people.take();
  for (PyPerson* person : persons) warn(person->notices(), kCallersLevel);
  if (asking.empty()) return poses;
  const std::vector<unsigned char>& is_lifted = people.choose();
  const auto lifted = std::count(is_lifted.begin(), is_lifted.end(), 1);
  Array<float> answers;
  if (lifted) {
    py::array_t<float> windows(windows_shape(people[0], (std::size_t)lifted));
    people.windows(is_lifted, windows.mutable_data());
    py::list states;
    for (std::size_t n = 0; n < asking.size(); n++)
      if (is_lifted[n]) add_state(states, *persons[asking[n]], streams[asking[n]]);
    answers = answers_of(people[0], run, windows, states);
    people.deadline().ran(people[asking[0]].notices());
  }
  py::ssize_t answer = 0;
  for (std::size_t n = 0; n < asking.size(); n++) {
    PyPerson& person = *persons[asking[n]];
    poses[asking[n]] =
        pose_of(person, person.pose, question_of(person), is_lifted[n] ? answers.data(answer++) : nullptr);
  }
  for (PyPerson* person : persons) warn(person->notices(), kCallersLevel);
  return poses;
}

// The model inputs of one person at many moments, for one engine call.
class Questions {
 public:
  explicit Questions(PyPerson& person) : person_(person) {}

  // Takes a frame; returns the number of model inputs so far.
  std::size_t push(const py::object& keypoints_px, const py::object& timestamp_s) {
    const Person::Claim claim(person_);
    check(person_, keypoints_px, timestamp_s);
    if (person_.take()) add();
    warn(person_.notices(), kCallersLevel + 1);  // Stream.lift has another function between
    return questions_.size();
  }

  // The recording has ended: adds the next waiting frame. Returns whether there was one.
  bool flush() {
    const Person::Claim claim(person_);
    if (!person_.flush()) return false;
    add();
    return true;
  }

  // Returns the poses and forgets their model inputs.
  py::list answer(const py::object& run) {
    py::list poses;
    if (questions_.empty()) return poses;
    const Person::Claim claim(person_);
    const py::array windows = py::array_t<float>(windows_shape(person_, questions_.size()), windows_.data());
    py::list states;
    add_state(states, person_, py::cast(person_));
    const Array<float> answers = answers_of(person_, run, windows, states);
    for (std::size_t i = 0; i < questions_.size(); i++)
      poses.append(pose_of(person_, person_.pose, questions_[i], answers.data((py::ssize_t)i)));
    questions_.clear(), windows_.clear();
    return poses;
  }

  std::size_t size() const { return questions_.size(); }

 private:
  void add() {
    questions_.push_back(question_of(person_));
    windows_.insert(windows_.end(), person_.window(), person_.window() + person_.window_size());
  }

  PyPerson& person_;
  std::vector<Question> questions_;
  std::vector<float> windows_;
};

using Line = std::pair<std::vector<std::tuple<int, double, double>>, double>;

// The sources in an Adapter: for each joint its alternatives, as alternatives_of() makes them.
std::vector<Alternatives> sources_of(const py::handle& adapter) {
  std::vector<Alternatives> all;
  for (const auto& joint : adapter.attr("alternatives").cast<std::vector<std::vector<Line>>>()) {
    Alternatives alternatives;
    for (const auto& [terms, most_confidence] : joint) {
      JointSources line{{}, most_confidence};
      for (const auto& [keypoint, x, y] : terms) line.terms.push_back({keypoint, x, y});
      alternatives.push_back(line);
    }
    all.push_back(alternatives);
  }
  return all;
}

Layout layout_of(const py::handle& adapter) {
  const py::object keypoints = adapter.attr("layout");
  return {keypoints.attr("name").cast<std::string>(), keypoints.attr("joints").cast<std::vector<std::string>>(),
          adapter.attr("skeleton").attr("joints").cast<std::vector<std::string>>(), sources_of(adapter)};
}

// The field `alternatives` of an Adapter: for each joint (((keypoint, x, y), ...), most_confidence), best first.
py::tuple alternatives_of(const std::vector<Alternatives>& all) {
  py::list joints;
  for (const Alternatives& alternatives : all) {
    py::list lines;
    for (const JointSources& line : alternatives) {
      py::list terms;
      for (const Term& term : line.terms) terms.append(py::make_tuple(term.keypoint, term.x, term.y));
      lines.append(py::make_tuple(py::tuple(terms), line.most_confidence));
    }
    joints.append(py::tuple(lines));
  }
  return py::tuple(joints);
}

// The joints of many frames: xy (N, J, 2) px and confidence (N, J) from keypoints (N, K, 2 or 3).
py::tuple adapted(const py::handle& adapter, const Array<double>& keypoints_px) {
  const Skeleton skeleton = skeleton_of(adapter.attr("skeleton"));
  const Adapter adapt(layout_of(adapter), skeleton);
  if (keypoints_px.ndim() != 3 || keypoints_px.shape(1) != adapt.keypoints()
      || (keypoints_px.shape(2) != 2 && keypoints_px.shape(2) != 3))
    throw std::invalid_argument("wanted keypoints (N, " + std::to_string(adapt.keypoints()) + ", 2 or 3)");
  const py::ssize_t frames = keypoints_px.shape(0), joints = skeleton.joints;
  Array<double> xy({frames, joints, (py::ssize_t)2}), confidence({frames, joints});
  std::vector<double> frame((std::size_t)(3 * adapt.keypoints()));
  for (py::ssize_t n = 0; n < frames; n++) {
    for (py::ssize_t k = 0; k < adapt.keypoints(); k++) {
      double* to = frame.data() + 3 * k;
      to[0] = keypoints_px.at(n, k, 0), to[1] = keypoints_px.at(n, k, 1);
      to[2] = confidence_of(to[0], to[1], keypoints_px.shape(2) == 3 ? keypoints_px.at(n, k, 2) : 1.0);
    }
    adapt(frame.data(), xy.mutable_data() + n * 2 * joints, confidence.mutable_data() + n * joints);
  }
  return py::make_tuple(xy, confidence);
}

std::unique_ptr<PyPerson> make_person(const py::type& pose, const py::object& engine, const py::object& adapter,
                                      std::pair<double, double> image_size, const std::vector<std::string>& inputs,
                                      const std::vector<std::string>& outputs, bool is_causal,
                                      std::optional<std::array<double, 4>> camera, int delay_frames, double rate_hz,
                                      double max_gap_s, std::optional<double> seen_above, double hold_s,
                                      std::optional<std::array<double, 3>> smoothing, int on_bad_time, bool mend_sides,
                                      const Lengths& lengths_m, std::optional<std::array<double, 3>> gravity,
                                      double deadline_ms, const Distortion& distortion, double height_m,
                                      bool constant_bones, long state) {
  const py::object skeleton = engine.attr("skeleton");
  const Lifter lifter{engine.attr("frames").cast<int>(), skeleton_of(skeleton), is_causal, inputs, outputs, 0, state};
  PersonOptions options;
  options.delay_frames = delay_frames, options.rate_hz = rate_hz, options.max_gap_s = max_gap_s;
  options.seen_above = seen_above.value_or(kModelSeenAbove), options.hold_s = hold_s,
  options.on_bad_time = (BadTime)on_bad_time;
  options.mend_sides = mend_sides;
  options.lengths_m = lengths_m;
  if (gravity) options.gravity = *gravity;
  options.deadline_ms = deadline_ms;
  options.distortion = distortion, options.height_m = height_m, options.constant_bones = constant_bones;
  if (smoothing)
    options.min_cutoff_hz = (*smoothing)[0], options.beta = (*smoothing)[1], options.d_cutoff_hz = (*smoothing)[2];
  if (camera)
    options.fx = (*camera)[0], options.fy = (*camera)[1], options.cx = (*camera)[2], options.cy = (*camera)[3];
  return std::make_unique<PyPerson>(
      PersonSettings{lifter, layout_of(adapter), image_size.first, image_size.second, options},
      PoseClass{pose, skeleton});
}

}  // namespace

void bind_runtime(py::module_& m) {
  py::class_<PyPerson>(m, "Person")
      .def(py::init(&make_person), py::arg("pose"), py::arg("engine"), py::arg("adapter"), py::arg("image_size"),
           py::kw_only(), py::arg("inputs"), py::arg("outputs"), py::arg("is_causal"), py::arg("camera"),
           py::arg("delay_frames"), py::arg("rate_hz"), py::arg("max_gap_s"), py::arg("seen_above"), py::arg("hold_s"),
           py::arg("smoothing"), py::arg("on_bad_time"), py::arg("mend_sides"), py::arg("lengths_m"),
           py::arg("gravity"), py::arg("deadline_ms"), py::arg("distortion"), py::arg("height_m"),
           py::arg("constant_bones"), py::arg("state"))
      .def("memory",
           [](PyPerson& person) {
             const Person::Claim claim(person);
             return py::bytes(person.memory());
           })
      .def("remember",
           [](PyPerson& person, std::string_view memory) {
             const Person::Claim claim(person);
             person.remember(memory);
           }, py::arg("memory"))
      .def("reset",
           [](PyPerson& person) {
             const Person::Claim claim(person);
             person.reset();
           })
      .def("push", &push, py::arg("run"), py::arg("keypoints_px"), py::arg("timestamp_s"))
      .def("flush", &flush, py::arg("run"))
      .def("notices", [](const PyPerson& person) { return counts_of(person.notices()); });
  py::class_<Questions>(m, "Questions")
      .def(py::init<PyPerson&>(), py::arg("person"), py::keep_alive<1, 2>())
      .def("push", &Questions::push, py::arg("keypoints_px"), py::arg("timestamp_s"))
      .def("flush", &Questions::flush)
      .def("answer", &Questions::answer, py::arg("run"))
      .def("__len__", &Questions::size);
  m.def("push_many", &push_many, py::arg("persons"), py::arg("run"), py::arg("keypoints_px"), py::arg("timestamps_s"));
  m.def("adapted", &adapted, py::arg("adapter"), py::arg("keypoints_px"));
  m.def("layouts", [] {
    py::list all;
    for (const Layout& layout : layouts())
      all.append(py::make_tuple(layout.name, layout.keypoints, alternatives_of(layout.sources)));
    return all;
  }, "(name, keypoints, alternatives) of each layout that ships.");
  bind_people(m);
  bind_parts(m);
  bind_movement(m);
}

}  // namespace edgepose
