"""What usually breaks a law of encoders, decoders, discriminators, losses and priors."""

CAUSES = {
    "model_state.pure_in_evaluation": (
        "Dropout, noise or a running statistic is active in evaluation, an argument is written to in place, or a result is "
        "cached. Ask self.training, and use out-of-place operations."
    ),
    "model_state.training_keeps": (
        "`forward` counts or stores something in a plain attribute, or writes to .data of a parameter. Keep such state in a "
        "buffer; compute normalised weights in `forward` (a model with torch's parametrizations cannot be pickled, M3)."
    ),
    "model_state.round_trips": (
        "A tensor is a plain attribute or a buffer with persistent=False, or a lambda is stored, which cannot be pickled. "
        "Register tensors as buffers, and make functions methods."
    ),
    "model_state.precision": (
        "A .float() or dtype=torch.float32 is written down, or a constant tensor widens the result. Take the dtype from the "
        "tensors at hand."
    ),
    "model_state.moves_whole": (
        "A tensor that the model computes with is a plain attribute, or is made in `forward` on the CPU. Use register_buffer,"
        " or device= of the input."
    ),
    "model_state.built_on_meta": (
        "`__init__` reads a value of a tensor (.item(), float(), a comparison) or names a device. Compute constants with "
        "Python or numpy, and leave out device=."
    ),
    "model_training.neighbours": (
        "A mean, norm or attention runs over axis 0, or batch statistics are used in evaluation. Use LayerNorm or GroupNorm, "
        "or BatchNorm with its running statistics."
    ),
    "model_training.empty_batch": (
        "A reshape with -1 cannot tell a size that is 0, and some layers, nn.PixelUnshuffle for one, hand an empty batch back "
        "as it is. Give every size of a reshape but the batch's, or raise ShapeError."
    ),
    "model_training.groups": (
        "A group is listed by hand and forgets a parameter, or a shared one stands in two. Use "
        "dvgen.blocks.weight_decay.decayed_weights, or leave parameter_groups as inherited."
    ),
    "model_training.gradient_reach": (
        "A layer is built and not called, its result is detached, or a ReLU, clamp or argmax stops the gradient. Delete the "
        "layer or the .detach()."
    ),
    "model_training.tiny": (
        "`tiny` returns something else than this class's Config, or is not overridden and the default is large. Return "
        "cls.Config(...) with the smallest widths that still use every part."
    ),
    "model_training.scaled": (
        "`scaled` rounds another field, or shrinks where it should widen. Return attrs.evolve(config, "
        "width=round(config.width * width)), and the config itself for 1."
    ),
    "encoder.number_of_maps": (
        "`maps`, `grids` and the tuple that `forward` returns are counted apart, or dims are not checked. Compute one from "
        "the other, and raise ConfigError unless len(dims) == maps(config)."
    ),
    "encoder.shapes": (
        "A convolution's padding gives one place more or less than `grids` says, or the last layer has the inner width. "
        "Compute `grids` by the formula of the layers, and end map i in dims[i] channels."
    ),
    "encoder.signals_reach_maps": (
        "A stride greater than the kernel skips rows, a channel is cut off, or a map is a constant. Let kernels overlap or "
        "touch (kernel >= stride), and feed each map from the signals."
    ),
    "encoder.condition_is_pure": (
        "`condition` stores features of an earlier call, or writes to its arguments. Compute from what it is given alone."
    ),
    "encoder.sizes": (
        "`grids` divides without looking at the remainder, or accepts sizes of 0 or of other axes. Raise ConfigError for a "
        "size that the strides do not divide."
    ),
    "decoder.shapes": (
        "The upsampling does not undo the encoder's, for a size that is not square or with two maps. Multiply each axis by "
        "the same factor the encoder divides it by, and check a shape that is not square."
    ),
    "decoder.vectors_reach_signals": (
        "A map, some channels or places are cut off, or a ReLU on the vectors themselves drops what is negative. Take every "
        "map in by a convolution or a concatenation."
    ),
    "decoder.last_layer": (
        "`last_layer` returns a new tensor (a view, .data, .detach()) or that of a layer that is not used. Return the weight "
        "itself: self.last.weight."
    ),
    "decoder.last_layer_is_last": (
        "`last_layer` names a layer that others follow. Name the weight of the convolution whose output the decoder returns: "
        "the adversarial weight is measured there."
    ),
    "discriminator.shapes": (
        "Logits are averaged to one a signal or lack the channel axis. End in a convolution to 1 channel, and return its map "
        "(b, 1, *patches)."
    ),
    "discriminator.signals_reach_logits": (
        "A stride skips rows, a border is cropped, or BatchNorm or a mean over axis 0 mixes signals. Let kernels touch, pad, "
        "and use a norm of each signal alone."
    ),
    "discriminator.constant_signals": (
        "Something divides by a deviation or a length that is 0, or takes its root. Add an epsilon inside the root or to the "
        "divisor."
    ),
    "loss.values": (
        "The loss is returned for each sample, can be negative, or has a constant added. Return one mean, 0 where both are "
        "equal; a loss that reads a distribution says so in `reads`."
    ),
    "loss.gradients": (
        "What was made was detached (.detach(), .item(), no_grad), a root or absolute value has no gradient at 0, or only some "
        "samples are used. Keep the graph, add an epsilon inside the root, and average over the whole batch."
    ),
    "loss.mean_over_batch": (
        "The loss is a sum over the batch, or divides by what depends on it. Take the mean over all axes, or the mean over "
        "axis 0 of each sample's loss."
    ),
    "loss.wrong_shapes": (
        "torch broadcasts (b, 1, h, w) against (b, 3, h, w) without a word. Compare the shapes first, and raise ShapeError."
    ),
    "loss.same_in_training": (
        "A network inside has dropout or BatchNorm and is put into training mode with the rest. Override train() so that it "
        "stays in evaluation mode."
    ),
    "loss.nothing_to_train": (
        "A network inside has parameters that ask for a gradient, which no optimiser has. Call requires_grad_(False) on it, "
        "or make its weights buffers."
    ),
    "adversarial_loss.finite": (
        "log(sigmoid(x)) or exp(x) overflows. Use softplus or binary_cross_entropy_with_logits, and return a mean, which is a"
        " scalar."
    ),
    "adversarial_loss.discriminator_gradients": (
        "A sign is wrong, or real and fake are exchanged. The discriminator's loss falls as real logits rise, and rises with "
        "fake ones: hinge is relu(1 - real) + relu(1 + fake)."
    ),
    "adversarial_loss.generator_gradients": (
        "A sign is wrong, or the fake logits are detached. The generator's loss falls as fake logits rise: hinge has "
        "-fake.mean()."
    ),
    "adversarial_loss.mean_over_batch": ("Logits are summed, or averaged over one axis alone. Call .mean() without axes."),
    "prior_values.terms": (
        "`forward` returns logits, a loss or a sum, or a log_softmax runs in half precision. Return the log-probability of "
        "each code, (b, *grid), computed in float32: dvgen.interfaces.likelihood.code_log_probs does it."
    ),
    "prior_values.masked": (
        "-1 is used as an index, or its term is not set to 0; or the mean is over no codes. Clamp codes to 0 before they are "
        "looked up, put 0 where they are MASKED, and divide by the count clamped to 1."
    ),
    "prior_values.normalised": (
        "Logits are not normalised over the codes, or a position sees its own code. Apply log_softmax to the last axis, and "
        "check R7."
    ),
    "prior_values.equal_logits": (
        "The first code is left out, has a fixed probability, or a temperature or smoothing is applied. Give every position "
        "its logits, the first one too, and normalise over num_codes."
    ),
    "prior_values.another_order": (
        "A sample's place in the batch enters, as by a cache, by batch statistics or a wrong reshape. Treat samples alike, "
        "and keep the batch as the first axis throughout."
    ),
    "prior_values.loss": (
        "The loss draws noise that is not from the generator it is given, drops labels although there is none, or averages "
        "otherwise than minus the mean of the terms. Leave `loss` as inherited, or pass the generator to every draw."
    ),
    "prior_values.context_counts": (
        "Labels or coarser codes are not fed in, are multiplied by a zero, or share an embedding with no label. Use "
        "dvgen.blocks.conditioning: ClassEmbedding and CoarserMaps."
    ),
    "prior_values.wrong_contexts": (
        "Nothing checks the context, so that torch broadcasts it or fails later. Call dvgen.blocks.conditioning.check_context"
        " first in `logits` and `start`; sampling checks by check_batch."
    ),
    "prior_order.causal_by_edit": (
        "A place sees its own code or later ones: the input is not shifted by one, the mask includes the diagonal, or a norm "
        "runs over places. Shift by one, or mask the first layer (type A), and normalise channels only."
    ),
    "prior_order.causal_by_gradient": (
        "A small or bounded leak that a change of one code does not show: a norm or mean over places, or a mask multiplied "
        "after a softmax. Fill masked scores with -inf before the softmax."
    ),
    "prior_order.steps_give_logits": (
        "`step` differs from `logits`: a cache is off by one, positions start at 1, or the context is added in one of them "
        "alone. Compare place by place; the first place that differs says where."
    ),
    "prior_order.steps_give_terms": (
        "`forward` scores another code or place than `step` predicts, by a shift of one or a raster order that is not last "
        "axis fastest. Leave `forward` as inherited from AutoregressivePrior."
    ),
    "prior_order.skips_are_steps": (
        "`skip` leaves the cache or the position counter behind, or includes the last code twice. Leave `skip` as inherited "
        "until `step` is right, then compare the two states."
    ),
    "prior_order.states_are_apart": (
        "The cache is an attribute of the module. Keep everything that sampling changes in the state that `start` returns."
    ),
    "prior_order.nothing_is_written": (
        "A clamp_ or masked_fill_ writes to the argument. Use the function without the underscore."
    ),
    "prior_samples.samples": (
        "Codes are drawn from torch's global state, have the wrong dtype, or come flat. Draw each sample with its own "
        "generator, and unflatten to (b, *grid) int64."
    ),
    "prior_samples.neighbours": (
        "One generator serves the whole batch, or a batch norm or padding mixes samples. Draw sample i from generators[i] "
        "alone."
    ),
    "prior_samples.given": (
        "Given codes are drawn over, or written to in place. Copy `given`, draw only where it is MASKED, and take the same "
        "random numbers either way."
    ),
    "prior_samples.frequencies": (
        "Sampling uses other logits than `forward` (a temperature, a shift by one, a context left out). Draw from the "
        "probabilities that `forward` tells; dvgen.interfaces.sampling.draw does it."
    ),
    "prior_samples.training_flag": (
        "Sampling runs with dropout, or calls self.eval() and does not put the flags back. Sample within `evaluating(self)` "
        "of dvgen.interfaces.prior."
    ),
    "prior_samples.guidance": (
        "The guided logits are mixed with weights that do not sum to 1. Logits are unconditional + guidance * (conditional - "
        "unconditional), and a guidance of 1 needs no second pass."
    ),
    "prior_samples.greedy": (
        "top_k is applied before guidance or not at all, or places are filled in an order that `logits` does not know. Apply "
        "top_k last, in dvgen.interfaces.sampling.draw."
    ),
}
"""By module and check: what usually breaks a law, and what to do."""
