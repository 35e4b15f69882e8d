#include "person.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "../without_gil.h"

namespace edgepose {

std::string shown(const py::handle& object) { return py::repr(object); }

double seconds(const py::handle& timestamp_s) {
  if (PyFloat_CheckExact(timestamp_s.ptr())) return PyFloat_AS_DOUBLE(timestamp_s.ptr());
  // float() alone would accept the text "1.5".
  const auto sum = py::reinterpret_steal<py::object>(PyNumber_Add(timestamp_s.ptr(), py::float_(0.0).ptr()));
  const auto number = sum ? py::reinterpret_steal<py::object>(PyNumber_Float(sum.ptr())) : py::object();
  if (number) return PyFloat_AS_DOUBLE(number.ptr());
  const bool is_too_large = PyErr_ExceptionMatches(PyExc_OverflowError);
  PyErr_Clear();
  if (is_too_large)
    throw py::value_error("timestamp_s is too large for a number of seconds; wanted a later, finite time");
  throw py::type_error("timestamp_s is " + shown(timestamp_s) + "; wanted a number of seconds");
}

namespace {

// A masked array as one in which a keypoint whose place or confidence is masked is no number, not found, and so is a
// masked depth.
py::array without_mask(const py::array& keypoints, const py::module_& ma) {
  const py::object masked = ma.attr("getmaskarray")(keypoints);
  const py::object place = masked[py::make_tuple(py::ellipsis(), py::slice(0, 3, 1))];
  const py::object mask = masked.attr("__or__")(place.attr("any")(py::arg("axis") = -1, py::arg("keepdims") = true));
  return py::module_::import("numpy").attr("where")(mask, NAN, ma.attr("getdata")(keypoints));
}

}  // namespace

py::array keypoints_of(const py::handle& keypoints_px, py::ssize_t axes, const char* wanted) {
  py::array keypoints;
  if (py::isinstance<py::array>(keypoints_px)) {
    keypoints = py::reinterpret_borrow<py::array>(keypoints_px);
  } else {
    try {
      keypoints = py::module_::import("numpy").attr("asarray")(keypoints_px);
    } catch (const py::error_already_set& error) {
      if (error.matches(PyExc_RuntimeError))  // from a torch tensor that requires grad, or is on a GPU
        throw py::type_error("keypoints_px is no array of numbers (" + std::string(py::str(error.value()))
                             + "); wanted " + wanted);
      if (!error.matches(PyExc_ValueError)) throw;
      throw py::value_error(std::string("keypoints_px is a list of rows of different lengths; wanted ") + wanted);
    }
  }
  const char kind = keypoints.dtype().kind();
  if (kind != 'f' && kind != 'i' && kind != 'u')
    throw py::type_error("keypoints_px has dtype " + std::string(py::str(keypoints.dtype())) + "; wanted real numbers");
  if (keypoints.ndim() != axes && !(axes == 3 && keypoints.size() == 0)) {  // an empty picture has no rows either
    const py::object shape = keypoints.attr("shape");
    throw py::value_error("keypoints_px has shape " + shown(shape) + "; wanted " + (axes == 2 ? "one person, " : "")
                          + wanted);
  }
  if (py::type::handle_of(keypoints).ptr() != (PyObject*)py::detail::npy_api::get().PyArray_Type_) {  // a subclass
    const py::module_ ma = py::module_::import("numpy.ma");
    if (ma.attr("isMaskedArray")(keypoints).cast<bool>()) return without_mask(keypoints, ma);
  }
  return keypoints;
}

// Whether an array's memory is floats, row after row.
bool is_float32(const py::array& array) {
  using api = py::detail::npy_api;
  constexpr int kPlain = api::NPY_ARRAY_C_CONTIGUOUS_ | api::NPY_ARRAY_ALIGNED_;
  const py::dtype type = array.dtype();
  return type.num() == api::NPY_FLOAT_ && type.byteorder() == '=' && (array.flags() & kPlain) == kPlain;
}

void check(Person& person, const py::handle& keypoints_px, const py::handle& timestamp_s) {
  const double time_s = seconds(timestamp_s);
  if (keypoints_px.is_none()) return person.check<double>(nullptr, 0, 0, time_s);
  const py::array keypoints = keypoints_of(keypoints_px, 2, "(K, 2) or (K, 3)");
  const long rows = (long)keypoints.shape(0), columns = (long)keypoints.shape(1);
  // An array without elements may have no address, which would mean that nobody was detected.
  static const double none = 0;
  if (is_float32(keypoints) && keypoints.size())
    return person.check((const float*)keypoints.data(), rows, columns, time_s);
  const Array<double> converted(keypoints);
  person.check(keypoints.size() ? converted.data() : &none, rows, columns, time_s);
}

namespace {

// A new array, in a tenth of the time that pybind11 takes, of the 5 us that a push may cost.
template <class T>
Array<T> fresh(std::initializer_list<py::ssize_t> shape) {
  const auto& api = py::detail::npy_api::get();
  PyObject* array = api.PyArray_NewFromDescr_(api.PyArray_Type_, py::dtype::of<T>().release().ptr(), (int)shape.size(),
                                              const_cast<py::ssize_t*>(shape.begin()), nullptr, nullptr, 0, nullptr);
  if (!array) throw py::error_already_set();
  return py::reinterpret_steal<Array<T>>(array);
}

}  // namespace

Question question_of(const Person& person) {
  Question question{person.timestamp_s(), person.was_reset(), fresh<float>({person.joints(), 2}),
                    fresh<double>({person.joints()}), fresh<bool>({person.joints()}), {}};
  if (person.has_lens()) question.depth_m = person.depth_m();
  person.keypoints_norm(question.keypoints_norm.mutable_data());
  std::copy(person.confidence().begin(), person.confidence().end(), question.confidence.mutable_data());
  std::copy(person.is_seen().begin(), person.is_seen().end(), question.is_seen.mutable_data());
  return question;
}

namespace {

// The fields of Pose, in the order of set_fields().
constexpr const char* kFields[] = {"joints_m", "timestamp_s", "keypoints_norm", "confidence", "is_seen", "skeleton",
                                   "was_reset", "error_m", "predicted_s", "root_m", "root_error_m"};
constexpr std::size_t kFieldCount = sizeof kFields / sizeof *kFields;

// Sets the fields of a new object of a frozen class.
void set_fields(const py::object& object, const std::array<py::handle, kFieldCount>& values) {
  static PyObject* keys[kFieldCount] = {};  // interned, for as long as the process lives
  for (std::size_t i = 0; i < kFieldCount; i++) {
    if (!keys[i]) keys[i] = PyUnicode_InternFromString(kFields[i]);
    if (!keys[i] || PyObject_GenericSetAttr(object.ptr(), keys[i], values[i].ptr()) < 0) throw py::error_already_set();
  }
}

py::object numbers_of(bool is_known, const std::array<double, 3>& numbers) {
  if (!is_known) return py::none();
  Array<double> array = fresh<double>({3});
  std::copy(numbers.begin(), numbers.end(), array.mutable_data());
  return array;
}

}  // namespace

// Fields are set here because a frozen dataclass takes 3 us to do it, of the 5 us that a push may cost.
py::object pose_of(Person& person, const PoseClass& pose_class, const Question& question, const float* answer) {
  Array<float> joints_m = fresh<float>({person.joints(), 3});
  py::object error_m = py::none();
  float* error = nullptr;
  if (person.has_error()) {
    Array<float> errors = fresh<float>({person.joints()});
    error = errors.mutable_data(), error_m = errors;
  }
  const auto* is_seen = reinterpret_cast<const unsigned char*>(question.is_seen.data());
  const Sight sight{question.keypoints_norm.data(), question.confidence.data(), is_seen, question.depth_m.data()};
  Root root;
  bool is_placed = false;
  double predicted_s = 0;
  if (answer) {
    is_placed =
        person.answer(answer, question.timestamp_s, question.was_reset, sight, joints_m.mutable_data(), error, &root);
  } else {
    predicted_s = person.predict(sight, joints_m.mutable_data(), error, &root, &is_placed);
    if (predicted_s == 0) return py::none();
  }
  auto* type = reinterpret_cast<PyTypeObject*>(pose_class.type.ptr());
  const auto pose = py::reinterpret_steal<py::object>(type->tp_alloc(type, 0));
  if (!pose) throw py::error_already_set();
  const py::float_ timestamp_s(question.timestamp_s);
  const py::float_ ahead_s(predicted_s);
  const py::bool_ was_reset(question.was_reset);
  const py::object root_m = numbers_of(is_placed, root.m), root_error_m = numbers_of(is_placed, root.error_m);
  set_fields(pose, {joints_m, timestamp_s, question.keypoints_norm, question.confidence, question.is_seen,
                    pose_class.skeleton, was_reset, error_m, ahead_s, root_m, root_error_m});
  return pose;
}

void add_state(py::list& states, Person& person, const py::handle& owner) {
  if (person.has_state()) states.append(py::array_t<float>((py::ssize_t)person.state_floats(), person.state(), owner));
}

Array<float> answers_of(const Person& person, const py::object& run, const py::array& windows, const py::list& states) {
  py::object answers;
  try {
    answers = person.has_state() ? run(windows, states) : run(windows);
  } catch (const std::exception&) {
    throw;
  } catch (...) {  // pthread_exit's: the interpreter ends while a daemon thread is in the engine, and the lock is gone
    stop_thread();
  }
  const Array<float> array = Array<float>::ensure(answers);
  if (!array) throw py::error_already_set();
  const std::vector<py::ssize_t> wanted = {windows.shape(0), person.joints(), person.outputs()};
  if (!std::equal(wanted.begin(), wanted.end(), array.shape(), array.shape() + array.ndim()))
    throw py::value_error("the engine answered with shape " + shown(array.attr("shape")) + "; wanted "
                          + shown(py::tuple(py::cast(wanted))));
  return array;
}

std::vector<py::ssize_t> windows_shape(const Person& person, std::size_t count) {
  return {(py::ssize_t)count, person.frames(), person.joints(), person.inputs()};
}

void warn(Notices& notices, int level) {
  while (const std::string* text = notices.news())
    if (PyErr_WarnEx(PyExc_UserWarning, text->c_str(), level)) throw py::error_already_set();
}

py::dict counts_of(const Notices& notices) {
  py::dict counts;
  for (std::size_t kind = 0; kind < kNoticeKinds; kind++) counts[kNoticeNames[kind]] = notices[kind].times;
  return counts;
}

}  // namespace edgepose
