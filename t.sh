cd /tmp/role
SR_EDGE_DATA=/work/shared/data /work/main/.venv/bin/python benchmarks/int8_comparison.py --hr /work/shared/data/test/set5/hr --only taylor-swinir-tiny-x2 ups-tiny-x2 convnet-tiny-x2 lcoan-tiny-x2 --makers sr-edge --rounds 15 --json /tmp/int8c.json > /tmp/int8c.log 2>&1
