"""The run that is killed and resumed: 8 steps of 3 an epoch, a checkpoint after every second one."""

from script_runs import SMALL

FLAGS = [
    *("--task", "semantic", *SMALL, "--max_steps", 8, "--per_device_train_batch_size", 2, "--crop_size", 32),
    *("--eval_strategy", "steps", "--eval_steps", 2, "--save_strategy", "steps", "--save_steps", 2),
    *("--save_total_limit", 2, "--warmup_steps", 0, "--logging_steps", 1, "--num_pictures", 0, "--use_cpu"),
]
