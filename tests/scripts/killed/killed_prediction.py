"""scripts/predict.py that is killed (kill -9) in the middle of recording its n-th picture; 0 never kills.

python killed_prediction.py 2 --model ...
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from modeling_maskformer.commands import predict
from modeling_maskformer.inference.prediction_run.records import RecordFile

die_at, lines = int(sys.argv[1]), 0
write = RecordFile._write


def write_or_die(self, record):
    global lines
    lines += 1
    if lines == die_at:
        self._file.write(b'{"name": "half a li')
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, record)


RecordFile._write = write_or_die

if __name__ == "__main__":
    predict.main(sys.argv[2:])
