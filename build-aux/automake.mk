# Copyright (c) 2026 The ovs-vhostuser Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at:
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

EXTRA_DIST += \
	build-aux/check-style \
	build-aux/relink.mk

# Open vSwitch, built once in ovs/build unless configure was given a build
# tree, and in ovs/dpdk, with DPDK, if that is wanted.  Its warnings are not
# ours to read.
ovs/build.stamp ovs/dpdk.stamp: ovs/%.stamp:
	@echo "  MAKE     Open vSwitch $(OVS_VERSION) in ovs/$*," \
		"a few minutes (log: ovs/$*.log)"
	$(AM_V_at)$(MAKE) -C ovs/$* -f $(abs_top_srcdir)/build-aux/relink.mk \
		vhu-ovs > ovs/$*.log 2>&1 || { \
		grep -E 'error|Error' ovs/$*.log | head -n 5 >&2; exit 1; }
	$(AM_V_at)touch $@
# The other programs come from ovs/build.
ovs/dpdk.stamp: export VHU_OVS_PROGRAMS = vswitchd/ovs-vswitchd

ovs: $(OVS_STAMP) $(OVS_DPDK_STAMP)

# The same source with a shared libopenvswitch, without or with DPDK, to test
# the plugins in.  How fast that is does not matter.
ovs-shared: ovs/shared.stamp
ovs-shared-dpdk: ovs/shared-dpdk.stamp
ovs/shared-dpdk.stamp: SHARED_FLAGS = --with-dpdk=shared
ovs/shared.stamp ovs/shared-dpdk.stamp: ovs/%.stamp:
	@echo "  MAKE     Open vSwitch $(OVS_VERSION) in ovs/$*," \
		"a few minutes (log: ovs/$*.log)"
	$(AM_V_at)$(MKDIR_P) ovs/$* && { cd ovs/$* && \
		CONFIG_SHELL=/bin/sh $(OVS_SRCDIR)/configure \
			--enable-shared --disable-static \
			$(OVS_COMMON_FLAGS) $(SHARED_FLAGS) \
			PYTHON3='$(PYTHON3)' CC='$(CC)' CFLAGS='$(CFLAGS) -O0' && \
		$(MAKE) -f $(abs_top_srcdir)/build-aux/relink.mk vhu-ovs; \
		} > ovs/$*.log 2>&1 || { \
		grep -E 'error|Error' ovs/$*.log | head -n 5 >&2; exit 1; }
	$(AM_V_at)touch $@
.PHONY: ovs ovs-shared ovs-shared-dpdk

# What a private build of Open vSwitch leaves.  "make clean" keeps it: it takes
# minutes, and nothing of ours changes it.
distclean-local:
	-chmod -R u+w ovs 2>/dev/null
	-rm -rf ovs
