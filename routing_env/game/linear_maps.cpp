// chosen_maps of linear_maps.py in C++: the same operations in the same order, and so the same bits.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/library.h>

#include <memory>
#include <vector>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One linear map per group of rows. `order` sorts the rows by group, `rows` counts each group; `parameters` are the
// groups' weights, then their biases if they have any.
struct ChosenMaps : torch::autograd::Function<ChosenMaps> {
  static Tensor forward(AutogradContext* ctx, const Tensor& v, const Tensor& order, at::IntArrayRef rows,
                        at::TensorList parameters) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto weights = parameters.slice(0, rows.size()), biases = parameters.slice(rows.size());
    const Tensor inputs = v.index_select(0, order);
    const auto parts = inputs.split_with_sizes(rows);
    std::vector<Tensor> outputs;
    for (size_t k = 0; k < rows.size(); ++k) {
      const Tensor turned = weights[k].t();
      outputs.push_back(biases.empty() ? at::mm(parts[k], turned) : at::addmm(biases[k], parts[k], turned));
    }
    variable_list saved{inputs, order};
    saved.insert(saved.end(), weights.begin(), weights.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["rows"] = rows.vec();
    ctx->saved_data["biased"] = !biases.empty();
    const Tensor output = at::cat(outputs);
    return at::empty_like(output).index_copy_(0, order, output);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grad_outputs) {
    variable_list gradients = once(ctx, grad_outputs[0]);
    if (!at::GradMode::is_enabled()) return gradients;
    const auto refusal = std::make_shared<torch::autograd::DelayedError>(
        "chosen linear maps can be differentiated once, not twice", gradients.size());
    for (Tensor& gradient : gradients)
      if (gradient.defined()) gradient.requires_grad_();
    return (*refusal)(std::move(gradients));
  }

 private:
  static variable_list once(AutogradContext* ctx, const Tensor& grad_output) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto saved = ctx->get_saved_variables();
    const auto rows = ctx->saved_data["rows"].toIntVector();
    const bool biased = ctx->saved_data["biased"].toBool();
    const Tensor &inputs = saved[0], &order = saved[1];
    const auto weights = at::TensorList(saved).slice(2);
    const Tensor grad = grad_output.index_select(0, order);
    const auto grads = grad.split_with_sizes(rows), parts = inputs.split_with_sizes(rows);
    variable_list gradients(3 + rows.size() * (biased ? 2 : 1));  // of v, order, rows, weights, biases
    std::vector<Tensor> grad_inputs;
    for (size_t k = 0; k < rows.size(); ++k) {
      if (ctx->needs_input_grad(0)) grad_inputs.push_back(at::mm(grads[k], weights[k]));
      gradients[3 + k] = at::mm(grads[k].t(), parts[k]);
      if (biased) gradients[3 + rows.size() + k] = grads[k].sum(0);
    }
    if (ctx->needs_input_grad(0))
      gradients[0] = at::empty_like(inputs).index_copy_(0, order, at::cat(grad_inputs));
    return gradients;
  }
};

Tensor chosen_maps(const Tensor& v, const Tensor& order, at::IntArrayRef rows, at::TensorList parameters) {
  return ChosenMaps::apply(v, order, rows, parameters);
}

TORCH_LIBRARY(routing_env, library) {
  library.def("chosen_maps(Tensor v, Tensor order, int[] rows, Tensor[] parameters) -> Tensor", chosen_maps);
}
