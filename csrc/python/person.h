// Persons for Python: converts callers' arrays and times, and makes poses of Python's class.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <utility>
#include <vector>

#include "../runtime/person.h"
#include "runtime.h"

namespace edgepose {

// The class Pose of edgepose/stream.py, and the skeleton of the poses.
struct PoseClass {
  py::type type;
  py::object skeleton;
};

// The arguments that a Person is made from.
struct PersonSettings {
  Lifter lifter;
  Layout layout;
  double width_px, height_px;
  PersonOptions options;
};

class PyPerson : public Person {
 public:
  PyPerson(const PersonSettings& settings, PoseClass pose)
      : Person(settings.lifter, settings.layout, settings.width_px, settings.height_px, settings.options),
        settings(settings),
        pose(std::move(pose)) {}

  const PersonSettings settings;
  const PoseClass pose;
};

constexpr int kCallersLevel = 2;  // level of a warning: the line that called the method of Stream

std::string shown(const py::handle& object);

// A time as a number. Throws what Python raises for anything else.
double seconds(const py::handle& timestamp_s);

// The caller's keypoints as an array of numbers. wanted: the accepted shapes of `axes` axes, for messages.
py::array keypoints_of(const py::handle& keypoints_px, py::ssize_t axes, const char* wanted);

// Whether an array's memory is floats, row after row.
bool is_float32(const py::array& array);

// Calls Person::check with the caller's arguments.
void check(Person& person, const py::handle& keypoints_px, const py::handle& timestamp_s);

// A pose without its joints yet: when and where.
struct Question {
  double timestamp_s;
  bool was_reset;
  Array<float> keypoints_norm;
  Array<double> confidence;
  Array<bool> is_seen;
  std::vector<double> depth_m;  // empty without a lens
};

Question question_of(const Person& person);

// Makes the Pose from an engine's answer; null: a predicted one, or None where nothing can be predicted.
py::object pose_of(Person& person, const PoseClass& pose_class, const Question& question, const float* answer);

std::vector<py::ssize_t> windows_shape(const Person& person, std::size_t count);

// Adds a view of what the model remembers of a person, where it has a state. owner: keeps the person alive.
void add_state(py::list& states, Person& person, const py::handle& owner);

// Runs the engine on windows, and on states where there are any; returns (N, J, outputs) float32.
Array<float> answers_of(const Person& person, const py::object& run, const py::array& windows, const py::list& states);

// Issues Python warnings for new notices. level: the caller whose line a warning names, counted in Python functions
// from the one that called. Throws where the caller has made warnings errors.
void warn(Notices& notices, int level);

py::dict counts_of(const Notices& notices);

}  // namespace edgepose
