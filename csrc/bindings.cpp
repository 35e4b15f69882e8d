// The CPU engine's extension: Plan, Context, and each kernel by itself for the tests.
#include <array>
#include <optional>

#include "pack.h"
#include "plan_arrays.h"
#include "python/engine_file.h"
#include "python/runtime.h"

using namespace edgepose;

namespace {

std::shared_ptr<Plan> make_plan(const py::dict& plan, const Arrays& arrays, const std::string& isa) {
  return std::make_shared<Plan>(spec_of(plan, arrays), kernels(isa.c_str()));
}

class ArrayContext : public Context {
 public:
  ArrayContext(std::shared_ptr<Plan> plan, int threads, std::vector<int> cpus)
      : Context(plan, threads, std::move(cpus)), plan_(std::move(plan)) {}

  void run(const Floats& x, Floats& y) {
    const int people = people_of(x, y, plan_->frames());
    const float* from = x.data();
    float* to = y.mutable_data();
    WithoutGil nogil;
    Context::run(from, to, people);
  }

  // states: an array for each person, (state,) float32, which is advanced.
  void step(const Floats& x, Floats& y, std::vector<Floats>& states) {
    if (!plan_->has_state()) throw std::invalid_argument("the plan has no state; wanted run()");
    const int people = people_of(x, y, 1);
    if ((int)states.size() != people)
      throw std::invalid_argument(std::to_string(states.size()) + " states for " + std::to_string(people) + " people");
    std::vector<float*> of;
    for (Floats& state : states) {
      need_shape(state.request(), {(py::ssize_t)plan_->state()}, "a state");
      of.push_back(state.mutable_data());
    }
    const float* from = x.data();
    float* to = y.mutable_data();
    WithoutGil nogil;
    Context::step(from, to, people, of.data());
  }

 private:
  int people_of(const Floats& x, const Floats& y, int frames) const {
    const py::ssize_t people = x.ndim() > 0 ? x.shape(0) : 0;
    need_shape(x.request(), {people, frames, plan_->joints(), plan_->inputs()}, "keypoints_norm");
    need_shape(y.request(), {people, plan_->joints(), plan_->outputs()}, "pose_m");
    if (people > 1 << 20) throw std::invalid_argument("more than 1048576 people in one call");
    return (int)people;
  }

  std::shared_ptr<Plan> plan_;
};

// The kernels alone, for the tests: each takes the matrices its contract names, rows `ld` floats apart, ld being the
// distance between the rows of the array (a view of a wider one may be passed).
struct Matrix {
  float* data;
  int rows, columns, ld;
  explicit Matrix(const py::array_t<float>& a) {
    if (a.ndim() != 2 || (a.shape(1) > 1 && a.strides(1) != 4) || a.strides(0) % 4)
      throw std::invalid_argument("not rows of float32");
    data = const_cast<float*>(a.data());
    rows = (int)a.shape(0), columns = (int)a.shape(1), ld = (int)(a.strides(0) / 4);
  }
};

// The entries of a matrix that are not zero, row by row.
struct SparseRows {
  std::vector<int> start{0}, index;
  std::vector<float> coefficient;
  explicit SparseRows(const Matrix& dense) {
    for (int r = 0; r < dense.rows; r++) {
      for (int c = 0; c < dense.columns; c++) {
        const float value = dense.data[(long)r * dense.ld + c];
        if (value == 0) continue;
        index.push_back(c);
        coefficient.push_back(value);
      }
      start.push_back((int)index.size());
    }
  }
  Sums sums() const { return {start.data(), index.data(), coefficient.data()}; }
};

// Scratch for a kernel: any number of floats, aligned to 64 bytes.
class Scratch {
 public:
  explicit Scratch(long floats) : block_(floats + 16) {}
  float* aligned() { return block_.data() + (64 - reinterpret_cast<std::uintptr_t>(block_.data()) % 64) % 64 / 4; }

 private:
  std::vector<float> block_;
};

// Weights (k, n) or (groups, k, n) of float32, float16, or int8 with their scales, packed for a table's kernels.
// x_bits: to how many bits x is rounded, 0 if it is not.
class PackedWeights {
 public:
  PackedWeights(const py::array& w, const std::optional<Floats>& scale, int x_bits, const Kernels& table)
      : scale_(scale) {
    const Tensor weight = tensor_of(w);
    if ((weight.type == Type::i8) != scale.has_value() || (x_bits && !scale))
      throw std::invalid_argument("scales and x_bits go with weights of int8");
    packing_ = packing_of(weight, x_bits, table);
    packed_.resize(packing_.bytes());
    pack(weight, packing_, false, packed_.data());
  }
  const Product& product() const { return packing_.product; }
  Weights weights() const { return {packed_.data(), packing_.part, scale_ ? scale_->data() : nullptr}; }

 private:
  Packing packing_;
  std::vector<unsigned char> packed_;
  std::optional<Floats> scale_;
};

void bind_kernels(py::module_ m) {
  using Rows = const py::array_t<float>&;
  m.def("normalize", [](Rows x, Rows y, float epsilon, const std::string& isa) {
    const Matrix X(x), Y(y);
    kernels(isa.c_str()).normalize(X.data, Y.data, X.ld, Y.ld, X.rows, X.columns, epsilon);
  });
  m.def("add", [](Rows x, Rows c, Rows y, const std::string& isa) {
    const Matrix X(x), C(c), Y(y);
    kernels(isa.c_str()).add(X.data, C.data, Y.data, X.ld, C.ld, Y.ld, X.rows, X.columns);
  });
  using Scales = const std::optional<Floats>&;
  m.def("linear", [](Rows x, const py::array& w, Rows b, const std::optional<py::array_t<float>>& residual, Rows y,
                     const std::string& activation, const std::string& isa, Scales scale, int x_bits) {
    const Matrix X(x), B(b), Y(y);
    const float* r = residual ? residual->data() : nullptr;
    const PackedWeights packed(w, scale, x_bits, kernels(isa.c_str()));
    Scratch scratch(linear_scratch(X.columns));
    packed.product().linear(X.data, packed.weights(), B.data, r, Y.data, scratch.aligned(), X.ld, Y.ld, X.rows,
                            X.columns, Y.columns, activation_named(activation));
  }, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("residual"), py::arg("y"), py::arg("activation"), py::arg("isa"),
     py::arg("scale") = py::none(), py::arg("x_bits") = 0);
  // x and y: people * joints rows; gather (gathered rows, joints) and scatter (joints, gathered rows) as dense
  // matrices.
  m.def("graph_conv", [](Rows x, const py::array& w, Rows b, const std::optional<py::array_t<float>>& residual, Rows y,
                         Rows gather, Rows scatter, const std::vector<int>& group_rows, const std::string& activation,
                         const std::string& isa, Scales scale, int x_bits) {
    const Matrix X(x), B(b), Y(y), G(gather), S(scatter);
    std::vector<int> rows{0};
    for (int count : group_rows) rows.push_back(rows.back() + count);
    if (rows.back() != G.rows || G.rows != S.columns || G.rows > kGraphRows || G.columns != S.rows || X.rows % S.rows)
      throw std::invalid_argument("gather, scatter, group_rows and x do not fit together");
    const SparseRows gathered(G), scattered(S);
    const Graph graph = {S.rows, (int)group_rows.size(), rows.data(), gathered.sums(), scattered.sums()};
    const float* r = residual ? residual->data() : nullptr;
    const PackedWeights packed(w, scale, x_bits, kernels(isa.c_str()));
    Scratch scratch(graph_scratch(G.rows, X.ld, X.columns));
    packed.product().graph_conv(X.data, packed.weights(), B.data, r, Y.data, scratch.aligned(), graph, X.ld, Y.ld,
                                B.ld, X.rows / S.rows, X.columns, Y.columns, activation_named(activation));
  }, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("residual"), py::arg("y"), py::arg("gather"), py::arg("scatter"),
     py::arg("group_rows"), py::arg("activation"), py::arg("isa"), py::arg("scale") = py::none(),
     py::arg("x_bits") = 0);
  m.def("multiply", [](Rows x, Rows r, Rows y, const std::string& activation, const std::string& isa) {
    const Matrix X(x), R(r), Y(y);
    kernels(isa.c_str())
        .multiply(X.data, R.data, Y.data, X.ld, R.ld, Y.ld, X.rows, X.columns, activation_named(activation));
  });
  m.def("blend", [](float a, float b, Rows x, Rows y, const std::string& isa) {
    const Matrix X(x), Y(y);
    kernels(isa.c_str()).blend(a, b, X.data, Y.data, X.ld, Y.ld, X.rows, X.columns);
  });
  m.def("attention", [](Rows q, Rows k, Rows v, Rows y, int before, int after, const std::string& isa) {
    const Matrix Q(q), K(k), V(v), Y(y);
    if (before < 0 || after < 0) throw std::invalid_argument("before and after are 0 or more");
    Scratch scratch(attention_scratch(Q.rows, Q.columns));
    kernels(isa.c_str())
        .attention(Q.data, K.data, V.data, Y.data, scratch.aligned(), Q.ld, Y.ld, Q.rows, Q.columns, before, after);
  });
  m.def("ring_attention", [](Rows q, Rows ring, int newest, Rows place, Rows age, Rows y, int span, int count,
                             const std::string& isa) {
    const Matrix Q(q), R(ring), P(place), A(age), Y(y);
    if (Q.columns % A.rows || R.columns != 2 * Q.columns || R.ld != R.columns || A.ld != A.columns || newest < 0
        || newest >= R.rows || span < 1 || count < 2 || R.rows <= span * (count - 1) || P.columns < R.rows)
      throw std::invalid_argument("q, ring, place, age, span and count do not fit together");
    kernels(isa.c_str()).ring_attention(Q.data, {R.data, R.rows, newest}, P.data, A.data, Y.data, A.rows,
                                        Q.columns / A.rows, span, count, A.columns);
  });
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "The native CPU engine: plans, contexts, kernels. edgepose.backends.native is its user.";
  m.def("isas", [] {
    int count;
    const InstructionSet* sets = instruction_sets(&count);
    std::vector<std::string> names;
    for (int i = 0; i < count; i++)
      if (sets[i].runs) names.push_back(sets[i].isa);
    return names;
  }, "The instruction sets this CPU runs, best first.");
  m.def("instruction_sets", [] {
    int count;
    const InstructionSet* sets = instruction_sets(&count);
    py::list all;
    for (int i = 0; i < count; i++)
      all.append(py::make_tuple(sets[i].isa, sets[i].machines, sets[i].gain, sets[i].kernels != nullptr, sets[i].runs));
    return all;
  }, "(name, machines, gain, is built, runs here) of each that there are kernels for, best first.");
  py::class_<Plan, std::shared_ptr<Plan>>(m, "Plan")
      .def(py::init(&make_plan), py::arg("plan"), py::arg("tensors"), py::arg("isa") = "")
      .def_property_readonly("isa", [](const Plan& p) { return std::string(p.isa()); })
      .def_property_readonly("state", &Plan::state, "Floats of a person's state; 0 for a plan without one.")
      .def_property_readonly("buffers", [](const Plan& p) {
        std::vector<std::array<long, 4>> placed;
        for (const Buffer& b : p.buffers()) placed.push_back({b.rows, b.columns, b.ld, b.offset});
        return placed;
      }, "[rows, columns, ld, offset] of each.");
  py::class_<ArrayContext>(m, "Context")
      .def(py::init<std::shared_ptr<Plan>, int, std::vector<int>>(), py::arg("plan"), py::arg("threads"),
           py::arg("cpus") = std::vector<int>())
      .def("run", &ArrayContext::run, py::arg("keypoints_norm").noconvert(), py::arg("pose_m").noconvert())
      .def("step", &ArrayContext::step, py::arg("keypoints_norm").noconvert(), py::arg("pose_m").noconvert(),
           py::arg("states").noconvert());
  m.def("probe_flops", [](long n) { return kernels(nullptr).probe_flops(n); }, py::call_guard<WithoutGil>());
  m.def("probe_dots", [](long n) { return kernels(nullptr).probe_dots(n); }, py::call_guard<WithoutGil>());
  m.def("probe_read", [](const Floats& x, long times) {
    const float* data = x.data();
    const long n = (long)x.size();
    WithoutGil nogil;
    return kernels(nullptr).probe_read(data, n, times);
  }, py::arg("x").noconvert(), py::arg("times"));
  bind_kernels(m.def_submodule("kernels"));
  bind_engine_file(m);
  bind_runtime(m);
}
