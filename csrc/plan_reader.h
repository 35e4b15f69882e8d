// Reads a plan's JSON, as engine files hold it, into the PlanSpec that a Plan is made of. The only place that knows its
// keys.
#pragma once

#include <map>
#include <string>

#include "json.h"
#include "plan.h"

namespace edgepose {

// plan: {frames, joints, inputs, outputs, buffers: [[rows, columns]], steps: [{op, ...}]}, the steps naming their
// tensors; inputs and outputs: the columns' names; if absent, 2 inputs and 3 outputs. tensors: by name; their data is
// not copied. Throws std::invalid_argument, naming the step and the key, for a key that is missing or of another type
// and for a tensor that is not there; check_plan checks the numbers.
PlanSpec read_plan(const json::Value& plan, const std::map<std::string, Tensor>& tensors);

// Throws std::invalid_argument, listing what there is, for an unknown name.
Activation activation_named(const std::string& name);

}  // namespace edgepose
