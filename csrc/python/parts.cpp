// Single parts of the runtime, for edgepose.OneEuro, the tests and the benchmark.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "../runtime/assignment.h"
#include "../runtime/keypoints.h"
#include "../runtime/lens.h"
#include "../runtime/place.h"
#include "../runtime/stream.h"
#include "../without_gil.h"
#include "runtime.h"

namespace edgepose {

namespace {

template <class Real>
void bind_one_euro(py::module_& m, const char* name) {
  py::class_<OneEuro<Real>>(m, name)
      .def(py::init<double, double, double, int>(), py::arg("min_cutoff_hz"), py::arg("beta"), py::arg("d_cutoff_hz"),
           py::arg("values"))
      .def("filter", [](OneEuro<Real>& filter, py::array_t<Real, py::array::c_style>& x, double timestamp_s) {
        filter(x.mutable_data(), timestamp_s);
      }, py::arg("x").noconvert(), py::arg("timestamp_s"),
           "x becomes the filtered values; it has as many as the filter was made for.");
}

std::vector<double> numbers(const Array<double>& array, std::size_t count, const char* name) {
  if ((std::size_t)array.size() != count)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(array.size()) + " numbers; wanted "
                                + std::to_string(count));
  return {array.data(), array.data() + array.size()};
}

// A window of frames (J, columns) whose notes are one number, used as the confidence of every joint.
class PyWindow : public Window {
 public:
  PyWindow(int frames, const py::object& skeleton, double rate_hz, int delay_frames, double max_gap_s, bool is_causal,
           int columns)
      : Window(frames, skeleton_of(skeleton), columns, rate_hz, delay_frames, max_gap_s, is_causal), frames(frames),
        joints(skeleton_of(skeleton).joints), columns(columns) {}

  Note note_of(double number) const {
    return {std::vector<double>((std::size_t)joints, number), std::vector<unsigned char>((std::size_t)joints),
            std::vector<double>((std::size_t)joints, NAN)};
  }
  std::vector<double> frame_of(const Array<double>& frame) const {
    return numbers(frame, (std::size_t)(joints * columns), "a frame");
  }

  const int frames, joints, columns;
};

void bind_window_and_filters(py::module_& m) {
  bind_one_euro<float>(m, "OneEuro32");
  bind_one_euro<double>(m, "OneEuro64");
  py::class_<Hold>(m, "Hold")
      .def(py::init([](const py::object& skeleton, double seen_above, double lost_below, double hold_s) {
        return std::make_unique<Hold>(skeleton_of(skeleton), seen_above, lost_below, hold_s);
      }), py::arg("skeleton"), py::arg("seen_above") = 0.3, py::arg("lost_below") = 0.2, py::arg("hold_s") = 0.3)
      .def("reset", &Hold::reset)
      .def("__call__", [](Hold& hold, const Array<double>& keypoints, const Array<double>& confidence,
                          double timestamp_s) -> py::object {
        const std::size_t joints = hold.is_seen().size();
        const std::vector<double> xy = numbers(keypoints, 2 * joints, "keypoints"),
                                  sure = numbers(confidence, joints, "confidence");
        if (!hold(xy.data(), sure.data(), timestamp_s)) return py::none();
        Array<bool> is_seen((py::ssize_t)joints);
        std::copy(hold.is_seen().begin(), hold.is_seen().end(), is_seen.mutable_data());
        return py::make_tuple(py::array_t<double>({(py::ssize_t)joints, (py::ssize_t)2}, hold.placed()), is_seen);
      }, py::arg("keypoints"), py::arg("confidence"), py::arg("timestamp_s"));
  py::class_<PyWindow>(m, "Window")
      .def(py::init<int, const py::object&, double, int, double, bool, int>(), py::arg("frames"), py::arg("skeleton"),
           py::arg("rate_hz"), py::arg("delay_frames"), py::arg("max_gap_s"), py::arg("is_causal"), py::arg("columns"))
      .def("reset", &PyWindow::reset)
      .def("flush", &PyWindow::flush)
      .def("push", [](PyWindow& w, const Array<double>& frame, double t, double note) {
        return w.push(w.frame_of(frame).data(), t, w.note_of(note));
      })
      .def("repeat", [](PyWindow& w, const Array<double>& frame, double t, double note) {
        return w.repeat(w.frame_of(frame).data(), t, w.note_of(note));
      })
      .def("is_continued_by", [](const PyWindow& w, const std::optional<Array<double>>& pelvis_norm, double t) {
        return w.is_continued_by(pelvis_norm ? numbers(*pelvis_norm, 2, "pelvis_norm").data() : nullptr, t);
      })
      .def("input", [](const PyWindow& w) { return py::array_t<float>({w.frames, w.joints, w.columns}, w.input()); })
      .def("note", [](const PyWindow& w) { return w.note().confidence[0]; })
      .def_property_readonly("is_empty", &PyWindow::is_empty)
      .def_property_readonly("timestamp_s", &PyWindow::timestamp_s)
      .def_property_readonly("was_reset", &PyWindow::was_reset);
}

void bind_place(py::module_& m) {
  m.def("root_translation", [](const Array<double>& joints_m, const Array<double>& keypoints,
                               const Array<double>& confidence, double fx, double fy, double cx, double cy) {
    const auto place = root_translation(joints_m.data(), keypoints.data(), confidence.data(),
                                        (std::size_t)confidence.size(), fx, fy, cx, cy);
    return Array<double>(3, place.data());
  });
  m.def("undistorted", [](const Array<double>& points, const std::array<double, 4>& camera,
                          const Distortion& distortion) {
    const auto [fx, fy, cx, cy] = camera;
    constexpr double kAnySize = 1e12;
    const Lens lens(fx, fy, cx, cy, distortion, kAnySize, kAnySize);
    Array<double> moved({points.shape(0), (py::ssize_t)2});
    for (py::ssize_t i = 0; i < points.shape(0); i++) {
      double* to = moved.mutable_data(i);
      std::copy_n(points.data(i), 2, to);
      if (!lens.undistort(to)) to[0] = to[1] = NAN;
    }
    return moved;
  });
  m.def("depths_at", [](const Array<float>& picture, const Array<double>& points, int reach_px) {
    Array<double> depths(points.shape(0));
    for (py::ssize_t i = 0; i < points.shape(0); i++)
      *depths.mutable_data(i) = depth_at(picture.data(), picture.shape(1), picture.shape(0), points.data(i), reach_px);
    return depths;
  });
}

void bind_assignment(py::module_& m) {
  m.def("assignment", [](const Array<double>& cost, double unassigned) {
    if (cost.ndim() != 2) throw std::invalid_argument("wanted costs (rows, columns)");
    Array<int> columns_of(cost.shape(0));
    Assignment()(cost.data(), (int)cost.shape(0), (int)cost.shape(1), unassigned, columns_of.mutable_data());
    return columns_of;
  }, py::arg("cost"), py::arg("unassigned"), "For each row its column, or -1.");
}

// The stream of C and C++, engine included, for the benchmark.
void bind_stream(py::module_& m) {
  py::class_<Stream>(m, "Stream")
      .def(py::init([](const std::string& path, const std::string& layout, double width_px, double height_px,
                       double rate_hz, int threads) {
        PersonOptions options;
        options.rate_hz = rate_hz;
        return std::make_unique<Stream>(load(path, threads, nullptr), layout_named(layout), width_px, height_px,
                                        options);
      }), py::arg("path"), py::arg("layout"), py::arg("width_px"), py::arg("height_px"), py::arg("rate_hz"),
           py::arg("threads"))
      .def("push", [](Stream& stream, const py::array_t<float, py::array::c_style>& keypoints_px, double timestamp_s) {
        if (keypoints_px.ndim() != 2) throw std::invalid_argument("wanted keypoints (K, 2) or (K, 3)");
        const WithoutGil nogil;
        return stream.push(keypoints_px.data(), (long)keypoints_px.shape(0), (long)keypoints_px.shape(1), timestamp_s);
      }, py::arg("keypoints_px").noconvert(), py::arg("timestamp_s"), "Whether there is a new pose.")
      .def("joints_m", [](const Stream& stream) {
        return py::array_t<float>({stream.engine().skeleton().joints, 3}, stream.pose().joints_m.data());
      });
}

}  // namespace

void bind_parts(py::module_& m) {
  bind_window_and_filters(m);
  bind_place(m);
  bind_assignment(m);
  bind_stream(m);
}

}  // namespace edgepose
