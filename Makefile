# make demo: train every objective on the embedded world and report.  make test: lint, types, tests.
# Both make their own environment in .venv first; they need Python 3.11, 3.12 or 3.13, make and git.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export TOKENIZERS_PARALLELISM := false
# kept: without it each of the tests' processes compiles every module again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all test-transformers lint types laptop tune bases equal-rates studies sft-then-rl hh-tiny mutants clean

demo: $(VENV)/.installed
	$(PY) -m grao_bench.train +sweeps=demo
	$(PY) -m grao_bench.report runs/demo

test: lint types
	$(PY) -m pytest -n 2 --dist worksteal -q -m "not slow"

# the slow tests too, the peers' own code beside ours (the extra "parity") and a real model server ("serving")
test-all: lint types $(VENV)/.parity
	$(PY) -m pytest -n 2 --dist worksteal -q

# what meets transformers' own code, under the oldest we take, the newest below 5.20 (vLLM's CPU build
# wants that) and the newest; an environment of its own for each, minutes a version
TRANSFORMERS := 5.17.0 5.19.0 5.24.0
MEET := tests/rollouts tests/models tests/test_attention.py tests/evaluation/test_lm_eval.py
test-transformers: $(TRANSFORMERS:%=.venv-transformers-%/.installed)
	for v in $(TRANSFORMERS); do echo "transformers $$v" && \
	  .venv-transformers-$$v/bin/python -m pytest -q -m "not slow" $(MEET) || exit 2; done

.venv-transformers-%/.installed: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" transformers==$*
	touch $@

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed
	$(VENV)/bin/mypy

# the committed results: results/*/README.md say what each sweep is
tune: $(VENV)/.installed
	$(PY) -m grao_bench.tune protocol=laptop

laptop: $(VENV)/.installed
	$(PY) -m grao_bench.train +sweeps=laptop
	$(PY) -m grao_bench.train +sweeps=laptop_saturation
	$(PY) -m grao_bench.controls runs/laptop
	$(PY) -m grao_bench.report runs/laptop --tuned optimizer.lr

equal-rates: $(VENV)/.installed
	$(PY) -m grao_bench.train +sweeps=equal_rates
	$(PY) -m grao_bench.report runs/equal_rates

# the weights that those start from; where they are and belong to the world, nothing is made
bases: $(VENV)/.installed
	$(PY) -m grao_bench.bases

# what results/README.md reads: ablation, weights, frontier, two stages
STUDIES := table3_ablation beta_lambda kl_frontier kl_frontier_beta kl_frontier_sft
studies: $(VENV)/.installed sft-then-rl
	for sweep in $(STUDIES); do $(PY) -m grao_bench.train +sweeps=$$sweep || exit 2; done
	for sweep in table3_ablation beta_lambda kl_frontier; do $(PY) -m grao_bench.report runs/$$sweep || exit 2; done

sft-then-rl: $(VENV)/.installed
	$(PY) -m grao_bench.train +sweeps=sft_then_rl_first
	first=$$(ls -d runs/sft_then_rl/tiny/world_helpful/sft-*/) && $(PY) -m grao_bench.train +sweeps=sft_then_rl "model.start_from=$${first}seed\$${seed}"
	$(PY) -m grao_bench.train +sweeps=sft_then_rl_rivals
	$(PY) -m grao_bench.report runs/sft_then_rl

# HH=<folder in the upstream layout>, or GRAO_BENCH_HH; CORPUS='[file.jsonl.gz,...]': more documents for the base
CORPUS := []
ifdef HH
export GRAO_BENCH_HH := $(HH)
endif
# each set's pairs in two halves: a reward model to train on as it comes, and another to judge by
HH_SPLIT := HH-RLHF pairs from the folder HH. If that is a split of your own, say so beside every number.
hh-tiny: $(VENV)/.installed
	for set in helpful harmless; do for half in training,false evaluation,true; do \
	  test -d runs/reward_models/hh_$$set-$${half%,*} || \
	  $(PY) -m grao_bench.train_reward model=tiny_hh "model.corpus=$(CORPUS)" data=hh_$$set half=$${half%,*} \
	    length_balance=$${half#*,} max_tokens=256 || exit 2; done; done
	$(PY) -m grao_bench.train +sweeps=hh_tiny "model.corpus=$(CORPUS)"
	$(PY) -m grao_bench.report runs/hh_tiny --note "$(HH_SPLIT)"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  "grao_bench needs Python 3.11, 3.12 or 3.13 (Hydra 1.3 cannot start on 3.14), and $(PYTHON) is %d.%d: make PYTHON=python3.13" % v[:2])'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

$(VENV)/.parity: $(VENV)/.installed
	$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[dev,parity,serving]"
	touch $@

# small faults put into objectives/ and ops.py, in a copy; each must fail a test. Half an hour on one core; tests/MUTANTS.md has what survives
mutants: $(VENV)/.installed
	rm -rf runs/mutants && mkdir -p runs/mutants
	cp -r conf grao_bench sweeps tests pyproject.toml runs/mutants
	cp tests/mutants.cfg runs/mutants/setup.cfg
	cd runs/mutants && $(CURDIR)/$(VENV)/bin/mutmut run && $(CURDIR)/$(VENV)/bin/mutmut results && $(CURDIR)/$(VENV)/bin/mutmut export-cicd-stats
	$(PY) -c 'import json, sys; n = json.load(open("runs/mutants/mutants/mutmut-cicd-stats.json")); share = (n["killed"] + n["timeout"]) / n["total"]; \
	  print("{:.1%} of {} mutants killed".format(share, n["total"])); sys.exit(share < 0.95)'

clean:
	rm -rf $(VENV) .venv-transformers-* runs .pytest_cache .mypy_cache .ruff_cache
