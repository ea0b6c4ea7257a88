# SPDX-License-Identifier: Apache-2.0
# A thin front of Meson: each target sets up what it needs and calls the tool that does the work.

BUILD := build
JOBS  := $(shell nproc)
PROGRAMS := cli/anima vmm/anima-vmm vmm/anima-nat

.PHONY: all setup run run-clean run-small test test-long lint bench install clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

setup:
	@scripts/setup

$(BUILD)/build.ninja: | setup
	@meson setup --buildtype=debugoptimized $(BUILD) >/dev/null

# What a run needs, without a word when it is there.
define programs
@ninja -C $(BUILD) -n $(PROGRAMS) | grep -q 'no work to do' || ninja -C $(BUILD) $(PROGRAMS)
endef

run: $(BUILD)/build.ninja
	$(programs)
	@scripts/run-debian

# The next run starts with a fresh disk.
run-clean:
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/anima/run"

run-small: $(BUILD)/build.ninja
	$(programs)
	@scripts/run-small

test:
	@scripts/setup test
	@scripts/test

test-long:
	@scripts/setup test
	@scripts/test --long

lint:
	@scripts/setup test
	@scripts/lint

bench: all
	@scripts/setup bench
	@scripts/bench

install: all
	@meson install -C $(BUILD)

clean:
	@rm -rf build build-asan build-tsan build-fuzz
