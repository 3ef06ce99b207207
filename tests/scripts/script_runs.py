"""How the tests call the scripts: briefly, and with a small model."""

# what keeps a run of the script to a few seconds
SMALL = [
    *("--backbone", "resnet10t", "--backbone_weights", "random"),
    *("--fpn_feature_size", 32, "--mask_feature_size", 32, "--hidden_dim", 32, "--attention_heads", 4),
    *("--decoder_layers", 2, "--ffn_dim", 32, "--num_queries", 8, "--num_points", 64),
]
BRIEF = [
    *("--max_steps", 3, "--per_device_train_batch_size", 2, "--crop_size", 32, "--num_pictures", 2),
    *("--warmup_steps", 0, "--logging_steps", 1, "--use_cpu"),
]


def run(main, *argv):
    return main([str(argument) for argument in argv])
