# Fills the function's package: what `sam build` copies into $(ARTIFACTS_DIR) and uploads.
# Included by sam/arm64/Makefile and sam/x86_64/Makefile, run in the project's root.
#
# SAM's own builder takes everything there is beside template.yaml: tests, documentation, virtual environments. This takes
# handler/, syncer/ without what serves people at a terminal, and the pinned requirements, whose hashes are checked. Wheels
# are chosen for Lambda's Python and processor, so that any Python 3 with pip can build, on any machine.

PYTHON ?= python3
# AWS services the function talks to. botocore brings the descriptions of 400; they are four fifths of it.
SERVICES := dynamodb secretsmanager

# What serves people at a terminal, or a daemon: no tick imports it.
FOR_PEOPLE := demo commands doctor main.py __main__.py health.py ping.py idle_watch.py idle_connection.py \
	status_words.py status_page.py status_server.py status_html.py status_chart.py history.py prometheus_text.py \
	sign_in.py sign_in_gmail.py sign_in_outlook.py browser_redirect.py token_saving.py env_file.py

PIP := $(PYTHON) -m pip --disable-pip-version-check
WHEELS := --only-binary=:all: --implementation cp --python-version 3.13 \
	--platform manylinux_2_28_$(MACHINE) --platform manylinux2014_$(MACHINE)

.PHONY: build-SyncFunction
build-SyncFunction:
	@$(PIP) --version >/dev/null || { echo "$(PYTHON) has no pip: install it, or name a Python that has it: PYTHON=path/to/python3 sam build" >&2; exit 1; }
	$(PIP) install --quiet --require-hashes --no-deps --no-compile $(WHEELS) --target "$(ARTIFACTS_DIR)" --requirement requirements.txt
	rm -rf "$(ARTIFACTS_DIR)/bin"
	for data in boto3/data botocore/data; do \
		find "$(ARTIFACTS_DIR)/$$data" -mindepth 1 -maxdepth 1 -type d $(SERVICES:%=! -name %) -exec rm -rf {} +; \
	done
	cp -R handler syncer "$(ARTIFACTS_DIR)"
	cd "$(ARTIFACTS_DIR)/syncer" && rm -rf $(FOR_PEOPLE)
	find "$(ARTIFACTS_DIR)" -name __pycache__ -type d -prune -exec rm -rf {} +
# Lambda cannot keep bytecode that it compiles: without it, every cold start compiles anew. Not checked against the sources,
# whose times the upload changes.
	@for python in python3.13 "$(PYTHON)"; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || continue; \
		cd "$(ARTIFACTS_DIR)" && exec "$$python" -W ignore -m compileall -q -j 0 --invalidation-mode unchecked-hash .; \
	done; \
	echo "no Python 3.13 here: the package goes without bytecode, and a cold start takes a second longer" >&2
