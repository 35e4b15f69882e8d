// Axes, floors, bones and kinematics, for edgepose/axes.py and kinematics.py.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "../runtime/axes.h"
#include "../runtime/bones.h"
#include "../runtime/kinematics.h"
#include "runtime.h"

namespace edgepose {

namespace {

using Vector = std::array<double, 3>;

const double* data(const std::optional<Vector>& vector) { return vector ? vector->data() : nullptr; }

py::tuple arrays(const Axes& axes) {
  return py::make_tuple(py::array_t<double>({3, 3}, axes.rotation.data()),
                        py::array_t<double>(3, axes.origin.data()));
}

// One person's joints, (J, 3).
const float* pose_of(const Array<float>& joints_m, std::size_t joints) {
  if (joints_m.ndim() != 2 || (std::size_t)joints_m.shape(0) != joints || joints_m.shape(1) != 3)
    throw std::invalid_argument("joints_m has shape " + std::string(py::repr(joints_m.attr("shape"))) + "; wanted ("
                                + std::to_string(joints) + ", 3)");
  return joints_m.data();
}

// A Floor or Kinematics for the joints of a skeleton.
template <class Base>
struct Of : Base {
  template <class... Arguments>
  explicit Of(const py::object& skeleton, Arguments... arguments)
      : Base(skeleton_of(skeleton), arguments...), joints((std::size_t)skeleton_of(skeleton).joints) {}
  const std::size_t joints;
};

void bind_axes(py::module_& m) {
  m.def("axes_named", [](const std::string& name) { return arrays(axes_named(name.c_str())); });
  m.def("axes_of_camera", [](const std::array<double, 9>& rotation, const Vector& translation) {
    return arrays(axes_of_camera(rotation.data(), translation.data()));
  });
  m.def("axes_of_gravity", [](const Vector& gravity, double height_m) {
    return arrays(axes_of_gravity(gravity.data(), height_m));
  });
  py::class_<Of<Floor>>(m, "Floor")
      .def(py::init([](const py::object& skeleton, const std::optional<Vector>& gravity) {
        return std::make_unique<Of<Floor>>(skeleton, data(gravity));
      }), py::arg("skeleton"), py::arg("gravity"))
      .def("add", [](Of<Floor>& floor, const Array<float>& joints_m, const Vector& root_m) {
        floor.add(pose_of(joints_m, floor.joints), root_m.data());
      }, py::arg("joints_m"), py::arg("root_m"))
      .def("axes", [](const Of<Floor>& floor) { return arrays(floor.axes()); })
      .def("reset", &Floor::reset);
}

void bind_kinematics(py::module_& m) {
  m.def("angles", [] {
    py::list all;
    for (const AngleName& angle : kAngles) all.append(py::make_tuple(angle.name, angle.least, angle.most));
    return all;
  }, "(name, least, most) of each angle, in degrees.");
  m.def("hold_bones", [](const py::object& skeleton, py::array_t<float, py::array::c_style>& joints_m,
                         const Lengths& lengths_m) {
    const Skeleton of = skeleton_of(skeleton);
    if (joints_m.ndim() != 3 || joints_m.shape(1) != of.joints || joints_m.shape(2) != 3)
      throw std::invalid_argument("joints_m has shape " + std::string(py::repr(joints_m.attr("shape")))
                                  + "; wanted (N, " + std::to_string(of.joints) + ", 3)");
    hold_bones(of, lengths_m, joints_m.mutable_data(), (std::size_t)joints_m.shape(0));
  }, py::arg("skeleton"), py::arg("joints_m").noconvert(), py::arg("lengths_m"), "In place.");
  using OfKinematics = Of<Kinematics>;
  py::class_<OfKinematics>(m, "Kinematics")
      .def(py::init<const py::object&>(), py::arg("skeleton"))
      .def("reset", &Kinematics::reset)
      .def("rest", [](const OfKinematics& of) {
        return py::array_t<double>({(py::ssize_t)of.joints, (py::ssize_t)3}, of.rest().data());
      })
      .def("__call__", [](OfKinematics& of, const Array<float>& joints_m, const std::optional<Vector>& root_m,
                          double timestamp_s) {
        const Movement& now = of(pose_of(joints_m, of.joints), data(root_m), timestamp_s);
        const auto joints = (py::ssize_t)of.joints;
        return py::make_tuple(py::array_t<double>({joints, (py::ssize_t)4}, now.rotations.data()),
                              py::array_t<double>((py::ssize_t)kAngleCount, now.angles_deg.data()),
                              py::array_t<double>({joints, (py::ssize_t)3}, now.velocity_m_s.data()),
                              py::array_t<double>(3, now.centre_of_mass_m.data()));
      }, py::arg("joints_m"), py::arg("root_m"), py::arg("timestamp_s"));
}

}  // namespace

void bind_movement(py::module_& m) {
  bind_axes(m);
  bind_kinematics(m);
}

}  // namespace edgepose
