#include "plan_reader.h"

#include <cfloat>
#include <climits>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace edgepose {

namespace {

using json::Kind;
using json::Value;

Op op_named(const std::string& name) {
  static const std::pair<const char*, Op> ops[] = {
      {"tokens", Op::tokens}, {"frames", Op::frames}, {"reshape", Op::reshape},     {"pick", Op::pick},
      {"concat", Op::concat}, {"add", Op::add},       {"multiply", Op::multiply},   {"normalize", Op::normalize},
      {"linear", Op::linear}, {"conv", Op::conv},     {"attention", Op::attention}, {"graph_conv", Op::graph_conv},
      {"clock", Op::clock},   {"hats", Op::hats},     {"taps", Op::taps},
      {"ring_attention", Op::ring_attention}};
  for (const auto& [known, op] : ops) if (name == known) return op;
  throw std::invalid_argument("unknown op \"" + name + "\"; a newer edgepose may know it");
}

[[noreturn]] void wrong(const char* key) {
  throw std::invalid_argument(std::string("a value has the wrong type, or is out of range: \"") + key + "\"");
}

const Value& needed(const Value& object, const char* key) {
  if (const Value* value = object.find(key)) return *value;
  throw std::invalid_argument(std::string("\"") + key + "\" is missing");
}

int whole(const Value& value, const char* key) {
  if (!value.is_whole || value.whole < INT_MIN || value.whole > INT_MAX) wrong(key);
  return (int)value.whole;
}

const std::vector<Value>& items(const Value& value, const char* key) {
  if (value.kind != Kind::array) wrong(key);
  return value.items;
}

const std::string& text(const Value& value, const char* key) {
  if (value.kind != Kind::string) wrong(key);
  return value.text;
}

// Files of format 1 have 4 numbers: the buffer's place in the arena too.
Shape read_buffer(const Value& value) {
  const std::vector<Value>& numbers = items(value, "buffers");
  if (numbers.size() != 2 && numbers.size() != 4) throw std::invalid_argument("a buffer is not 2 numbers");
  return {whole(numbers[0], "buffers"), whole(numbers[1], "buffers")};
}

Step read_step(const Value& object, const std::map<std::string, int>& index) {
  if (object.kind != Kind::object) wrong("steps");
  const auto number = [&](const char* key, int otherwise) {
    const Value* value = object.find(key);
    return value ? whole(*value, key) : otherwise;
  };
  const auto tensor = [&](const char* key) {
    const Value* value = object.find(key);
    if (!value) return -1;
    const auto found = index.find(text(*value, key));
    if (found == index.end()) throw std::invalid_argument("there is no tensor " + value->text);
    return found->second;
  };
  Step step;
  step.op = op_named(text(needed(object, "op"), "op"));
  step.x = number("x", -1), step.other = number("other", -1), step.y = number("y", -1);
  step.residual = number("residual", -1), step.gate = number("gate", -1);
  // Files of formats 1 and 2 call the other operand of concat and multiply a residual.
  if ((step.op == Op::concat || step.op == Op::multiply) && step.other == -1) std::swap(step.other, step.residual);
  step.weight = tensor("weight"), step.bias = tensor("bias");
  step.scale = tensor("scale"), step.x_scale = tensor("x_scale"), step.x_bits = number("x_bits", 0);
  step.gather = tensor("gather"), step.scatter = tensor("scatter");
  if (const Value* value = object.find("activation")) step.activation = activation_named(text(*value, "activation"));
  step.heads = number("heads", 0), step.span = number("span", 0), step.count = number("count", 0);
  if (const Value* value = object.find("is_causal")) {
    if (value->kind != Kind::boolean) wrong("is_causal");
    step.is_causal = value->boolean;
  }
  step.first = number("first", 0), step.stride = number("stride", 1);
  if (const Value* value = object.find("epsilon")) {
    if (value->kind != Kind::number || std::fabs(value->number) > FLT_MAX) wrong("epsilon");
    step.epsilon = (float)value->number;
  }
  if (const Value* value = object.find("group_rows"))
    for (const Value& rows : items(*value, "group_rows")) step.group_rows.push_back(whole(rows, "group_rows"));
  return step;
}

}  // namespace

Activation activation_named(const std::string& name) {
  if (name == "none") return Activation::none;
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu;
  if (name == "sigmoid") return Activation::sigmoid;
  throw std::invalid_argument("unknown activation \"" + name + "\"; there are none, relu, gelu, sigmoid");
}

PlanSpec read_plan(const Value& plan, const std::map<std::string, Tensor>& tensors) {
  PlanSpec spec;
  std::map<std::string, int> index;
  for (const auto& [name, tensor] : tensors) {
    index[name] = (int)spec.tensors.size();
    spec.tensors.push_back(tensor);
  }
  int at = -1;  // the step that is being read
  try {
    if (plan.kind != Kind::object) throw std::invalid_argument("it is no object");
    spec.frames = whole(needed(plan, "frames"), "frames");
    spec.joints = whole(needed(plan, "joints"), "joints");
    if (const Value* inputs = plan.find("inputs")) spec.inputs = (int)items(*inputs, "inputs").size();
    if (const Value* outputs = plan.find("outputs")) spec.outputs = (int)items(*outputs, "outputs").size();
    if (const Value* has_state = plan.find("has_state")) {
      if (has_state->kind != Kind::boolean) wrong("has_state");
      spec.has_state = has_state->boolean;
    }
    for (const Value& buffer : items(needed(plan, "buffers"), "buffers")) spec.buffers.push_back(read_buffer(buffer));
    for (const Value& step : items(needed(plan, "steps"), "steps")) {
      at++;
      spec.steps.push_back(read_step(step, index));
    }
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument("the engine's plan is not valid: " + (at < 0 ? "" : "step " + std::to_string(at) + ": ")
                                + error.what());
  }
  return spec;
}

}  // namespace edgepose
