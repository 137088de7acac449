"""What usually breaks a law of a quantizer's state, updates, masks and precision, and of how it runs."""

CAUSES = {
    "quantizer_state.pure": (
        "`forward` moves averages or counts, or `encode` draws. Put what is to move into `pending`, and move it in `update`."
    ),
    "quantizer_state.update_from_nothing": (
        "`update` decays averages or counts even when nobody chose a code. Multiply each code's decay by whether its count is"
        " above 0, or return unchanged state where the total is 0."
    ),
    "quantizer_state.round_trips": (
        "A tensor or counter is a plain attribute and so not in state_dict, or a lambda is kept, which cannot be pickled. "
        "Register tensors as buffers, and make functions methods."
    ),
    "quantizer_state.no_aliasing": (
        "An output is the codebook itself, a view of it or the input. Return what was computed, or .clone() it, and write to "
        "no argument in place."
    ),
    "quantizer_state.keeps_no_argument": (
        "`update` or `initialise` stores the tensor that it is given. Write into the buffer with copy_, and never to the "
        "argument."
    ),
    "quantizer_state.decode_is_functional": (
        "`decode` reads a table cached in a plain attribute, calls .item(), or writes in place. Compute from self.codebook at"
        " every call, with functions of torch."
    ),
    "quantizer_state.out_of_range_under_vmap": (
        "A check by a Python `if` sees no value under vmap, or is skipped. Check with dvgen.blocks.codebook.checked_codes."
    ),
    "quantizer_initialise.initialised_is_finite": (
        "With fewer rows than codes, or equal rows, something is divided by zero or sampled without replacement. Use "
        "dvgen.blocks.kmeans.kmeans_codebook or dvgen.blocks.codebook.sampled_codebook, which take any rows."
    ),
    "quantizer_initialise.initialise_is_deterministic": (
        "Random numbers come from numpy, from `random` or from a new generator. Draw from torch's global state alone, which "
        "the training loop seeds."
    ),
    "quantizer_initialise.initial_codes_differ": (
        "Rows are drawn with repetition, or codes left over start at zero. Use dvgen.blocks.codebook.sampled_codebook, which "
        "sets repeated codes apart."
    ),
    "quantizer_initialise.none_dead_at_start": (
        "Codes start from random numbers rather than from the rows given, or rows are scaled and the codes are not. Take each"
        " code from a row, or from the mean of rows that choose it."
    ),
    "quantizer_precision.half_precision": (
        "The state is cast with the model, or the search runs in half precision. Register buffers in float32, leave "
        "Quantizer._apply as it is, and turn features to float32 first (dvgen.blocks.rows.to_rows does)."
    ),
    "quantizer_precision.autocast": (
        "A matrix product of the search or of `decode` runs in bfloat16 under autocast. Search with dvgen.blocks.nearest, or "
        "wrap it in torch.autocast(device, enabled=False)."
    ),
    "quantizer_precision.double_precision": (
        "A .float() or dtype=torch.float32 is written down. Take the dtype from the tensors at hand, and only widen what is "
        "narrower than float32."
    ),
    "quantizer_updates.towards_the_mean": (
        "Sums are divided by counts of another step, or the two averages decay differently. Average sums and counts with the "
        "same decay, and put the codebook to their quotient."
    ),
    "quantizer_updates.error_falls": (
        "The update has the wrong sign, uses the vectors in place of the features, or adds a sum where a mean belongs. Sum "
        "features by code, and divide by the counts."
    ),
    "quantizer_updates.unused_stays": (
        "A decay or smoothing of counts moves codes that nobody chose. Leave the row as it is where its count is 0 "
        "(torch.where)."
    ),
    "quantizer_updates.micro_batches": (
        "`pending` holds means, shares or integers. Put sums and counts there, as floats of the same shape each time, and "
        "divide in `update`."
    ),
    "quantizer_updates.checkpointing": (
        "`forward` changes state or draws outside torch's random state, so that running it twice differs. Move state in "
        "`update` only, and draw from torch's global state."
    ),
    "quantizer_revival.revival": (
        "Revived codes all take one place, or one outside the data, stop on the way there, or keep their old averages, which "
        "draw them back. Give each a place of its own among the data, reset counts and sums with it, and leave others alone."
    ),
    "quantizer_masks.junk_under_the_mask": (
        "Masked positions enter a mean, a maximum or the check for NaN (0 * NaN is NaN). Select the valid rows first "
        "(dvgen.blocks.rows.to_rows), and compute on these alone."
    ),
    "quantizer_masks.mask_is_leaving_out": (
        "A loss or statistic divides by all positions instead of the valid ones. Divide by the number of valid positions."
    ),
    "quantizer_systems.memory": (
        "A tensor (positions, codes, width) or (positions, positions) is made, as by broadcasting z[:, None] - codebook. Use "
        "dvgen.blocks.nearest, or go through the rows in slices."
    ),
    "quantizer_systems.update_does_not_wait": (
        "`update` calls .item(), float(), an `if` of a tensor, or makes tensors on the CPU. Use torch.where, and make tensors"
        " with new_zeros of the state or device=."
    ),
    "quantizer_compiled.compiled_is_eager": (
        "A Python branch on values, .item(), or an autograd function that torch.compile cannot trace breaks the graph. Ask "
        "dvgen.interfaces.looking.may_look() before looking at values, and use torch.where."
    ),
    "quantizer_compiled.inductor_is_eager": (
        "An operation rounds otherwise once it is fused, so that a tie or threshold falls to the other side. Search in "
        "float64 or with dvgen.blocks.nearest, and do not compare floats for equality."
    ),
    "quantizer_compiled.bad_values_compiled": (
        "In compiled code no exception can be raised, and NaN runs through. Use dvgen.blocks.rows.to_rows, which sets bad "
        "values to zero, and dvgen.blocks.code_statistics, which reports `finite`."
    ),
    "quantizer_compiled.no_recompilation": (
        "A shape is turned into a Python number, or a list or attribute changes with the batch size. Take sizes from tensors "
        "at each call, and store none of them on the module."
    ),
    "quantizer_ranks.ranks_update_alike": (
        "`update` draws from the random state, or uses something beside `pending` that differs by rank. Make every choice a "
        "function of `pending` (sums over ranks) and the state alone."
    ),
    "quantizer_ranks.two_processes": (
        "`forward` waits for other ranks where one of them is not called, or averages over its own rows only. Send what is to"
        " be summed through `pending`, or use dvgen.blocks.across_ranks, in training alone."
    ),
}
"""By module and check: what usually breaks a law, and what to do."""
