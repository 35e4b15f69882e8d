// Everybody in a picture, for edgepose/people.py.
#include "../runtime/people.h"

#include <pybind11/numpy.h>

#include <optional>

#include "person.h"

namespace edgepose {

namespace {

// The caller's ids as whole numbers, one for each of `people` detections.
Array<People::Id> ids_of(const py::handle& ids, long people) {
  const py::array array = py::module_::import("numpy").attr("asarray")(ids);
  const char kind = array.dtype().kind();
  if (array.ndim() != 1 || array.shape(0) != people)
    throw py::value_error("ids has shape " + shown(array.attr("shape")) + " for " + std::to_string(people)
                          + " people; wanted one for each");
  const auto refuse = [&] { throw py::type_error("ids is " + shown(ids) + "; wanted whole numbers"); };
  if (people > 0 && kind != 'i' && kind != 'u' && kind != 'f') refuse();  // a text could not be converted
  const Array<People::Id> whole(array);
  if (kind == 'f' && !array.attr("__eq__")(whole).attr("all")().cast<bool>()) refuse();
  return whole;
}

// People whose poses are objects of Python's class Pose.
class PyPeople : public People {
 public:
  // like: a person with the settings that everybody gets.
  PyPeople(const PyPerson& like, int most_people, double return_s)
      : People(like.settings.lifter, like.settings.layout, like.settings.width_px, like.settings.height_px,
               like.settings.options, {most_people, return_s}),
        pose(like.pose) {}

  const PoseClass pose;
};

void check(People& people, const py::object& keypoints_px, const py::object& timestamp_s, const py::object& ids) {
  const double time_s = seconds(timestamp_s);
  const py::array keypoints =
      keypoints_of(keypoints_px.is_none() ? py::object(py::list()) : keypoints_px, 3, "(N, K, 2) or (N, K, 3)");
  const bool is_nobody = keypoints.ndim() != 3;
  const long detections = is_nobody ? 0 : (long)keypoints.shape(0), rows = is_nobody ? 0 : (long)keypoints.shape(1);
  const long columns = is_nobody ? 0 : (long)keypoints.shape(2);
  std::optional<Array<People::Id>> all_ids;
  if (!ids.is_none()) all_ids.emplace(ids_of(ids, detections));
  const People::Id* known = all_ids ? all_ids->data() : nullptr;
  if (is_float32(keypoints))
    return people.check((const float*)keypoints.data(), detections, rows, columns, time_s, known);
  people.check(Array<double>(keypoints).data(), detections, rows, columns, time_s, known);
}

// Returns [(id, Pose)] of the people with a new model input.
py::list answered(const py::object& self, PyPeople& people, const py::object& run,
                  const std::vector<std::size_t>& asking, const std::vector<unsigned char>& is_lifted) {
  py::list found;
  if (asking.empty()) return found;
  Person& any = people.person(asking[0]);
  const auto lifted = std::count(is_lifted.begin(), is_lifted.begin() + (long)asking.size(), 1);
  Array<float> answers;
  if (lifted) {
    py::array_t<float> windows(windows_shape(any, (std::size_t)lifted));
    float* to = windows.mutable_data();
    py::list states;
    for (std::size_t n = 0; n < asking.size(); n++) {
      if (!is_lifted[n]) continue;
      to = std::copy_n(people.person(asking[n]).window(), any.window_size(), to);
      add_state(states, people.person(asking[n]), self);
    }
    answers = answers_of(any, run, windows, states);
    people.deadline().ran(people.notices());
  }
  py::ssize_t answer = 0;
  for (std::size_t n = 0; n < asking.size(); n++) {
    Person& person = people.person(asking[n]);
    const py::object pose =
        pose_of(person, people.pose, question_of(person), is_lifted[n] ? answers.data(answer++) : nullptr);
    if (!pose.is_none()) found.append(py::make_tuple(people.id(asking[n]), pose));
  }
  return found;
}

Array<People::Id> ids(const PyPeople& people) {
  return Array<People::Id>((py::ssize_t)people.ids().size(), people.ids().data());
}

}  // namespace

void bind_people(py::module_& m) {
  py::class_<PyPeople>(m, "People")
      .def(py::init<const PyPerson&, int, double>(), py::arg("like"), py::arg("most_people"), py::arg("return_s"))
      .def(
          "push",
          [](const py::object& self, const py::object& run, const py::object& keypoints_px,
             const py::object& timestamp_s, const py::object& ids) {
            PyPeople& people = self.cast<PyPeople&>();
            const Person::Claim claim = people.claim();
            people.deadline().start();
            check(people, keypoints_px, timestamp_s, ids);
            const std::vector<std::size_t>& asking = people.take();
            warn(people.notices(), kCallersLevel);
            const py::list found = answered(self, people, run, asking, people.choose());
            warn(people.notices(), kCallersLevel);
            return found;
          },
          py::arg("run"), py::arg("keypoints_px"), py::arg("timestamp_s"), py::arg("ids"))
      .def(
          "identify",
          [](PyPeople& people, const py::object& keypoints_px, const py::object& timestamp_s) {
            const Person::Claim claim = people.claim();
            check(people, keypoints_px, timestamp_s, py::none());
            people.take();
            return ids(people);
          },
          py::arg("keypoints_px"), py::arg("timestamp_s"), "Whose each detection is, without poses.")
      .def(
          "flush",
          [](const py::object& self, const py::object& run) {
            PyPeople& people = self.cast<PyPeople&>();
            const Person::Claim claim = people.claim();
            const std::vector<std::size_t>& asking = people.flush();
            return answered(self, people, run, asking, std::vector<unsigned char>(asking.size(), 1));
          },
          py::arg("run"))
      .def("reset",
           [](PyPeople& people) {
             const Person::Claim claim = people.claim();
             people.reset();
           })
      .def("ids", &ids)
      .def("notices", [](const PyPeople& people) { return counts_of(people.notices()); });
}

}  // namespace edgepose
