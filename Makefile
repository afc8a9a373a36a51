# `make` alone prints the list. Everything runs in .venv, which needs nothing but Python 3.10+ and is made on first use;
# bench-gpu alone takes any interpreter as it is: PY=/path/to/python make bench-gpu
PYTHON ?=
PY ?= python3
VENV_PY := .venv/bin/python
PYTEST_OPTIONS := -n 2 --dist worksteal
DEVICE_PYTHON := $(PYTHON)
WHEEL = dist/sr_edge-$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)-py3-none-any.whl

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-services fuzz check docs wheel wheelhouse bench bench-gpu bench-gpu-prepare device-env setup-gst
.PHONY: setup-browser

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

venv: ## make .venv, or bring it up to date with constraints.txt and pyproject.toml
	@PYTHON="$(PYTHON)" scripts/make_venv .venv

demo: venv ## bundled weights to a verified INT8 deployment, with a before/after picture in demo-output/
	@$(VENV_PY) scripts/demo.py

test: venv ## the test suite, in two processes
	@$(VENV_PY) -m pytest $(PYTEST_OPTIONS) -m "not services"

test-services: venv ## the tests that need a server, a browser or a long run (GStreamer, RTSP, Chromium, the documented commands)
	@$(VENV_PY) -m pytest $(PYTEST_OPTIONS) -m services

fuzz: venv ## 2,000 hostile inputs: bundles, models, pictures, videos, servers, arguments; INPUTS= (of each kind) SEED=
	@PYTHONPATH="$(CURDIR)" OMP_NUM_THREADS=1 $(VENV_PY) -m tests.fuzz.campaign $(or $(INPUTS),250) $(or $(SEED),0) $(RESULTS)

check: venv ## what must be green before a commit: lint, format, types, import layers, tests
	@PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/check

docs: venv ## the documentation as a site with the API reference, in build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet && echo "wrote build/site/index.html"

bench: venv ## every published figure again (about an hour); writes docs/benchmarks.md
	@$(VENV_PY) benchmarks/run_all.py

bench-gpu: ## an NVIDIA GPU, in 12 minutes, with any Python as it is: PY= WHEELS= RESULTS= MATERIAL= BUDGET_S= ONLY=
	@$(PY) benchmarks/bench_gpu.py $(if $(WHEELS),--libraries "$(WHEELS)") $(if $(BUDGET_S),--budget $(BUDGET_S)) \
		$(if $(RESULTS),--results "$(RESULTS)") $(if $(MATERIAL),--material "$(MATERIAL)") $(if $(ONLY),--only $(ONLY))

bench-gpu-prepare: venv ## what bench-gpu measures, made beforehand in gpu-material/, to be copied to the GPU
	@PYTHONPATH="$(CURDIR)/benchmarks:$(CURDIR)" $(VENV_PY) -m gpu_session prepare --into "$(or $(MATERIAL),gpu-material)"

wheel: venv ## dist/sr_edge-VERSION-py3-none-any.whl: what to install on another machine (docs/install.md)
	@$(VENV_PY) -m hatchling build -t wheel -d dist

# PYTHON is here the version of the device's Python, and must not become the interpreter of .venv.
wheelhouse: override PYTHON :=
wheelhouse: wheel ## that wheel and all that it needs, for a device without network: PLATFORM= PYTHON= EXTRAS= ALSO= INTO=
	@PYTHONPATH="$(CURDIR)" $(VENV_PY) scripts/wheelhouse.py $(WHEEL) $(if $(PLATFORM),--platform "$(PLATFORM)") \
		$(if $(DEVICE_PYTHON),--python "$(DEVICE_PYTHON)") $(if $(EXTRAS),--extras "$(EXTRAS)") \
		$(if $(ALSO),--also "$(ALSO)") $(if $(INTO),--into "$(INTO)")

device-env: ## a device-sized environment with only [openvino]: works without torch, and how large it is
	@PYTHON="$(PYTHON)" scripts/device_env

setup-gst: ## GStreamer, for its element's tests, by apt-get (asks for sudo unless you are root)
	@scripts/apt_install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-python3-plugin-loader \
		python3-gst-1.0 gir1.2-gst-plugins-base-1.0

setup-browser: ## Chromium, for the preview page's tests, by apt-get
	@scripts/apt_install chromium fonts-dejavu-core
